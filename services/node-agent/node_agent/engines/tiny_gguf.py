"""A tiny chat model that the project makes itself: legible, seeded, and of no other worth.

It is a real llama of about a quarter of a million parameters: embeddings and output hold which
word follows which in a few sentences of our own, two random layers in between disturb them a
little. So the engine does all that it does for a large model, in milliseconds.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import numpy as np

SENTENCES = (
    "the mesh turns servers into tokens .",
    "a node joins , is checked , and takes work .",
    "every token has a bill and a footprint .",
    "placement chooses the fullest node that fits .",
    "the gateway routes each request to a replica .",
    "metering writes one line for every request .",
    "carbon is measured here , not claimed .",
    "a broken row is named , and the node is cordoned .",
    "your data stay in europe .",
    "each decision can be explained and replayed .",
    "facts are told once and kept in order .",
    "the agent starts an engine and watches over it .",
    "small models speak quickly and know little .",
    "these words come from a tiny model made on this machine .",
    "energy flows in , answers flow out .",
    "le réseau relie les serveurs près de paris .",
    "chaque jeton a son prix et son empreinte .",
    "bonjour , je suis un tout petit modèle .",
    "hello , i am a very small model .",
)
"""Our own words; the model says what follows in one of these after what it said last."""

SEED = 20261123
WIDTH = 64
LAYERS = 2
HEADS = 4
HIDDEN = 128
CONTEXT = 4_096
EPSILON = 1e-5

SHARPNESS = 14.0
"""How much more likely (in nats) a word that follows is than one that does not."""

END_NATS = 0.5
"""How much more likely the end is than any one next sentence, after a full stop."""

MUTE_NATS = 40.0
"""How unlikely pieces are that only read: bytes, letters, beginnings of words."""

NOISE = 0.02

UNKNOWN, BEGIN, END, SYSTEM, USER, ASSISTANT = range(6)
SPECIALS = ("<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>")
SPACE = "\u2581"
LETTERS = "".join(chr(code) for code in range(33, 127)) + "àâäçéèêëîïôöùûü" + SPACE

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + (message['role'] if message['role'] in ['system', 'assistant'] else 'user') + '|>' }}"
    "{{ message['content'] }}{{ '</s>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def make(path: Path) -> None:
    """Write the model to ``path`` (about a megabyte)."""
    tokens, kinds, words = _vocabulary()
    embedding, output = _successions(tokens, words)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_description("Made by Compute Mesh for rehearsals; it knows nothing")
    writer.add_license("Apache-2.0")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([token.encode() for token in tokens])
    # Longer pieces first: whole words win over their beginnings.
    writer.add_token_scores(
        [
            float(len(token)) if kind == gguf.TokenType.NORMAL else 0.0
            for token, kind in zip(tokens, kinds, strict=True)
        ]
    )
    writer.add_token_types([int(kind) for kind in kinds])
    writer.add_unk_token_id(UNKNOWN)
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_chat_template(TEMPLATE)
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for name, tensor in _layers().items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _vocabulary() -> tuple[list[str], list[gguf.TokenType], dict[str, int]]:
    """Return the pieces, their kinds, and the place of each word of the sentences."""
    tokens = list(SPECIALS)
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.CONTROL] * (len(SPECIALS) - len(kinds))
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    kinds += [gguf.TokenType.BYTE] * 256
    said = sorted({word for sentence in SENTENCES for word in sentence.split()})
    spaced = [SPACE + word if word not in {".", ","} else word for word in said]
    # The tokenizer joins two pieces at a time: each beginning of a word must be a piece, too.
    beginnings = {piece[:length] for piece in spaced for length in range(2, len(piece))}
    pieces = sorted(set(LETTERS) | beginnings | set(spaced))
    places = {piece: len(tokens) + place for place, piece in enumerate(pieces)}
    tokens += pieces
    kinds += [gguf.TokenType.NORMAL] * len(pieces)
    return tokens, kinds, {word: places[piece] for word, piece in zip(said, spaced, strict=True)}


def _successions(tokens: list[str], words: dict[str, int]) -> tuple[Any, Any]:
    """Return (embedding, output), both float32[token, width], whose product says what follows what.

    Dimension 0 of every embedding is the same, which gives each output a bias; the others hold
    the best approximation that their number allows.
    """
    spoken = [*words.values(), END]
    column = {token: place for place, token in enumerate(spoken)}
    follows = np.zeros((len(tokens), len(spoken)), np.float32)
    opening = np.zeros(len(spoken), np.float32)
    for sentence in SENTENCES:
        said = [words[word] for word in sentence.split()]
        opening[column[said[0]]] = 1.0
        for first, second in pairwise(said):
            follows[first, column[second]] = 1.0
    silent = follows.sum(axis=1) == 0.0
    follows[silent] = opening
    follows[words["."], column[END]] = 1.0 + END_NATS / SHARPNESS
    left, strength, right = np.linalg.svd(follows, full_matrices=False)
    rank = WIDTH - 1
    inner = left[:, :rank] * np.sqrt(strength[:rank])
    # Every embedding has the length that the norm before the output gives it: none is rescaled.
    room = np.float32(WIDTH - 1)
    length = np.linalg.norm(inner, axis=1, keepdims=True)
    embedding = np.ones((len(tokens), WIDTH), np.float32)
    embedding[:, 1:] = inner / np.maximum(length, 1e-6) * np.sqrt(room)
    output = np.zeros((len(tokens), WIDTH), np.float32)
    output[:, 0] = -MUTE_NATS
    output[spoken, 0] = 0.0
    stretch = np.median(length) / np.sqrt(room)
    output[spoken, 1:] = right[:rank].T * np.sqrt(strength[:rank]) * SHARPNESS * stretch
    return embedding, output


def _layers() -> dict[str, Any]:
    """Return the random layers; they leave dimension 0 as it is and the others nearly so."""
    chance = np.random.default_rng(SEED)

    def drawn(*shape: int) -> Any:
        return (chance.standard_normal(shape) * NOISE).astype(np.float32)

    tensors: dict[str, Any] = {}
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors[f"{block}.{part}.weight"] = drawn(WIDTH, WIDTH)
        tensors[f"{block}.ffn_gate.weight"] = drawn(HIDDEN, WIDTH)
        tensors[f"{block}.ffn_up.weight"] = drawn(HIDDEN, WIDTH)
        tensors[f"{block}.ffn_down.weight"] = drawn(WIDTH, HIDDEN)
        for part in ("attn_output", "ffn_down"):
            tensors[f"{block}.{part}.weight"][0] = 0.0
        for part in ("attn_norm", "ffn_norm"):
            tensors[f"{block}.{part}.weight"] = np.ones(WIDTH, np.float32)
    return tensors
