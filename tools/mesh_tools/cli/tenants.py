"""``mesh env|org|project|key|join-token``: who may use the cloud."""

import argparse
import shlex

from mesh_tools.cli import show, where
from mesh_tools.cli.door import part
from mesh_tools.cli.show import age, field
from mesh_tools.cli.verbs import Verbs, argument, door


def verbs(noun: str) -> Verbs:
    """Return the verbs of one of this module's nouns."""
    made = Verbs(noun, "show" if noun == "env" else "list")
    {"env": _env, "org": _org, "project": _project, "key": _key, "join-token": _join_token}[noun](made)
    return made


def _env(made: Verbs) -> None:
    made.add("show", show_env, 'print exports for a shell: eval "$(./mesh env)"')


def show_env(wanted: argparse.Namespace) -> None:
    """Print the running mesh's address and keys as shell exports."""
    told = where.state(wanted.data)
    values = {
        "MESH_URL": told["gateway"],
        "MESH_API_KEY": told["project_key"],
        "MESH_ADMIN_KEY": told["admin_key"],
    }
    if wanted.json:
        show.out(values)
        return
    for name, value in values.items():
        print(f"export {name}={shlex.quote(str(value))}")


def _org(made: Verbs) -> None:
    made.add("list", list_organizations, "every organization")
    made.add("create", create_organization, "a new customer", argument("name", "its name"))


def list_organizations(wanted: argparse.Namespace) -> None:
    """Print the organizations."""
    items = door(wanted).items("/api/v1/organizations")
    columns = [("name", field("name")), ("age", age("created_at")), ("id", field("id"))]
    _print(wanted, items, columns, "no organizations yet: mesh org create NAME")


def create_organization(wanted: argparse.Namespace) -> None:
    """Make an organization."""
    _made(wanted, door(wanted).call("POST", "/api/v1/organizations", {"name": wanted.name}))


def _project(made: Verbs) -> None:
    made.add("list", list_projects, "the projects you see")
    made.add(
        "create",
        create_project,
        "a new project",
        argument("name", "its name"),
        argument("--org", "its organization (demo)", default="demo"),
    )


def list_projects(wanted: argparse.Namespace) -> None:
    """Print the projects."""
    items = door(wanted).items("/api/v1/projects")
    columns = [
        ("name", field("name")),
        ("organization", field("organization")),
        ("age", age("created_at")),
        ("id", field("id")),
    ]
    _print(wanted, items, columns, "no projects yet: mesh project create NAME --org ORG")


def create_project(wanted: argparse.Namespace) -> None:
    """Make a project."""
    body = {"organization": wanted.org, "name": wanted.name}
    _made(wanted, door(wanted).call("POST", "/api/v1/projects", body))


def _key(made: Verbs) -> None:
    made.add("list", list_keys, "the keys you see, without their secrets")
    made.add(
        "create",
        create_key,
        "a new key; its secret is shown once",
        argument("name", "its name"),
        argument("--project", "the project it opens (demo): a name, an id, or organization/name"),
        argument(
            "--role", "project (default) or admin", default="project", choices=["project", "admin"]
        ),
    )
    made.add("revoke", revoke_key, "make a key open nothing", argument("key", "its id"))


def list_keys(wanted: argparse.Namespace) -> None:
    """Print the keys."""
    items = door(wanted).items("/api/v1/keys")
    columns = [
        ("name", field("name")),
        ("role", field("role")),
        ("project", field("project")),
        ("hint", field("hint")),
        ("age", age("created_at")),
        ("revoked", age("revoked_at")),
        ("id", field("id")),
    ]
    _print(wanted, items, columns, "no keys yet: mesh key create NAME --project PROJECT")


def create_key(wanted: argparse.Namespace) -> None:
    """Issue a key and show its secret, this once."""
    body = {"name": wanted.name, "role": wanted.role}
    if wanted.project or wanted.role == "project":
        body["project"] = wanted.project or "demo"
    issued = door(wanted).call("POST", "/api/v1/keys", body)
    if wanted.json:
        show.out(issued)
        return
    print(issued["secret"])
    show.complain(
        f"this is key {issued['key']['id']}; its secret is shown this once and stored nowhere"
    )


def revoke_key(wanted: argparse.Namespace) -> None:
    """Revoke a key; every gateway knows when this returns."""
    _made(wanted, door(wanted).call("DELETE", f"/api/v1/keys/{part(wanted.key)}"), "revoked")


def _join_token(made: Verbs) -> None:
    made.add("list", list_tokens, "tokens that still open something, without their text")
    made.add(
        "create",
        create_token,
        "a token with which nodes enrol",
        argument("--uses", "for how many nodes (1)", type=int, default=1),
        argument("--lifetime", "for how many seconds (900)", type=int, default=900),
    )


def list_tokens(wanted: argparse.Namespace) -> None:
    """Print the join tokens."""
    items = door(wanted).items("/api/v1/join-tokens")
    columns = [("id", field("id")), ("uses left", field("uses_left")), ("expires", field("expires_at"))]
    _print(wanted, items, columns, "no join tokens are open: mesh join-token create")


def create_token(wanted: argparse.Namespace) -> None:
    """Make a join token and show it, this once."""
    body = {"uses": wanted.uses, "lifetime_s": wanted.lifetime}
    made = door(wanted).call("POST", "/api/v1/join-tokens", body)
    if wanted.json:
        show.out(made)
        return
    print(made["token"])
    show.complain(f"for {made['uses_left']} nodes until {made['expires_at']}; shown this once")


def _print(
    wanted: argparse.Namespace, items: list[dict[str, object]], columns: list[show.Column], empty: str
) -> None:
    if wanted.json:
        show.out({"items": items})
    else:
        show.table(items, columns, empty)


def _made(wanted: argparse.Namespace, made: dict[str, object] | None, word: str = "made") -> None:
    if wanted.json:
        show.out(made)
    elif made:
        print(f"{word}: {made.get('name')} ({made.get('id')})")
    else:
        print(word)
