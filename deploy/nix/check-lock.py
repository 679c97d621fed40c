"""Does flake.lock fit the inputs of flake.nix? Called by check-flake.sh with both as JSON files."""

import json
import re
import sys


def problems(lock, inputs):
    nodes = lock["nodes"]
    top = nodes[lock["root"]]["inputs"]
    if lock["version"] != 7:
        yield "version is not 7"
    if set(top) != set(inputs):
        yield f"inputs differ: {sorted(top)} and {sorted(inputs)}"
        return
    for name, node in nodes.items():
        if name == lock["root"]:
            continue
        locked = node["locked"]
        if not re.fullmatch(r"[0-9a-f]{40}", locked["rev"]):
            yield f"{name}: rev is not a commit"
        if not re.fullmatch(r"sha256-[A-Za-z0-9+/]{43}=", locked["narHash"]):
            yield f"{name}: narHash is not a SHA-256"
        for key in ("owner", "repo", "type"):
            if locked[key] != node["original"][key]:
                yield f"{name}: {key} of locked and original differ"
    for name, declared in inputs.items():
        node = nodes[top[name]]
        original = node["original"]
        url = f"{original['type']}:{original['owner']}/{original['repo']}"
        if "ref" in original:
            url += f"/{original['ref']}"
        if declared["url"] != url:
            yield f"{name}: flake.nix says {declared['url']}, flake.lock {url}"
        for inner, target in declared["follows"].items():
            if node.get("inputs", {}).get(inner) != [target]:
                yield f"{name}.{inner} should follow {target}"


if __name__ == "__main__":
    found = list(problems(*(json.load(open(path)) for path in sys.argv[1:3])))
    if found:
        sys.exit("\n".join(found))
