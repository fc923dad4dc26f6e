"""Names of span attributes, pinned here and nowhere else.

From the OpenTelemetry semantic conventions 1.37 (messaging and gen_ai are in development there,
so an upgrade is an edit of this file). No span name or attribute holds what a person wrote.
"""

SCHEMA_URL = "https://opentelemetry.io/schemas/1.37.0"

SERVICE_NAME = "service.name"
SERVICE_NAMESPACE = "service.namespace"
SERVICE_INSTANCE_ID = "service.instance.id"
CLOUD_AVAILABILITY_ZONE = "cloud.availability_zone"
ERROR_TYPE = "error.type"

MESSAGING_SYSTEM = "messaging.system"
MESSAGING_SYSTEM_NATS = "nats"
MESSAGING_OPERATION_NAME = "messaging.operation.name"
MESSAGING_OPERATION_TYPE = "messaging.operation.type"
MESSAGING_DESTINATION_NAME = "messaging.destination.name"
MESSAGING_DESTINATION_TEMPLATE = "messaging.destination.template"
MESSAGING_DESTINATION_PARTITION_ID = "messaging.destination.partition.id"
MESSAGING_CONSUMER_GROUP_NAME = "messaging.consumer.group.name"
MESSAGING_MESSAGE_ID = "messaging.message.id"
MESSAGING_MESSAGE_BODY_SIZE = "messaging.message.body.size"
MESSAGING_BATCH_MESSAGE_COUNT = "messaging.batch.message_count"

HTTP_REQUEST_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_RESPONSE_STATUS_CODE = "http.response.status_code"
URL_SCHEME = "url.scheme"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"

GEN_AI_OPERATION_NAME = "gen_ai.operation.name"
GEN_AI_PROVIDER_NAME = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL = "gen_ai.request.model"
GEN_AI_RESPONSE_MODEL = "gen_ai.response.model"
GEN_AI_RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons"
GEN_AI_USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens"
GEN_AI_USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"

MESH_REQUEST_ID = "mesh.request_id"
"""The request's id, on the gateway's server span: what ``mesh trace`` looks for."""

MESH_FACT_ID = "mesh.fact_id"
MESH_FACT_TAG = "mesh.fact_tag"
MESH_ASK_TAG = "mesh.ask_tag"
MESH_KEY = "mesh.key"
MESH_DELIVERY_COUNT = "mesh.delivery_count"
MESH_NODE_ID = "mesh.node_id"
MESH_ENDPOINT_ID = "mesh.endpoint_id"
MESH_OUTCOME = "mesh.outcome"
