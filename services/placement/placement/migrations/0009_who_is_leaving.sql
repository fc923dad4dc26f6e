-- Few of a hall's members are ever on their way out, or not begun yet as something has to end first: whoever
-- decides looks for both each time, and must not go through all that run.
CREATE INDEX member_that_leaves ON member (node_id) WHERE NOT holds AND state NOT IN ('stopped', 'failed');
CREATE INDEX member_held_back ON member (node_id) WHERE holds AND state = 'assigned' AND reasons <> '[]';
