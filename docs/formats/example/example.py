"""Opens a Holdfast backup with other people's programs only: PyPI `argon2-cffi`, `jwcrypto` and `tink`, and the `zstd`, `lz4` or `gzip` command.

    pip install -r requirements.txt
    python example.py BACKUP_FOLDER KEY_FILE [ARTIFACT_NAME] > tool-bytes

The passphrase of a locked key file is read from standard input.
"""

import hashlib
import io
import json
import pathlib
import subprocess
import sys
import unicodedata

import tink
from argon2 import low_level
from jwcrypto import jwe, jwk, jws
from jwcrypto.common import base64url_decode, base64url_encode
from tink import cleartext_keyset_handle, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2


def canonical(value):
    """RFC 8785 for documents without fractions: members sorted, no white space, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def verified_manifest(folder, key_file):
    if (folder / "deleted.json").exists():
        sys.exit("this backup was given up or deleted")
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    header, _, mark = manifest.pop("signature").split(".")
    signature = jws.JWS()
    signature.deserialize(f"{header}.{base64url_encode(canonical(manifest))}.{mark}")
    trusted = key_file["installations"][manifest["installationId"]]
    signature.verify(jwk.JWK(**trusted), alg="EdDSA")
    if signature.jose_header["kid"] != manifest["installationId"]:
        sys.exit("signed by another installation")
    return manifest


def private_key(key_file):
    if "lockedKey" not in key_file:
        return key_file["privateKey"]
    lock = key_file["lock"]
    passphrase = sys.stdin.readline().rstrip("\r\n")
    key = low_level.hash_secret_raw(
        unicodedata.normalize("NFC", passphrase).encode(),
        base64url_decode(lock["salt"]),
        time_cost=lock["passes"],
        memory_cost=lock["memoryKiB"],
        parallelism=lock["parallelism"],
        hash_len=32,
        type=low_level.Type.ID,
    )
    token = jwe.JWE()
    token.deserialize(key_file["lockedKey"], jwk.JWK(kty="oct", k=base64url_encode(key)))
    return json.loads(token.payload)


def data_key(folder, artifact, key_file):
    # Beside the one of the manifest lie those that rotations have added: any that was made for this key will do.
    attempt = (folder / artifact["encryption"]["keySidecar"]).parent
    for path in attempt.glob("keys-*.json"):
        sidecar = json.loads(path.read_text("utf-8"))
        wrapped = next(entry for entry in sidecar["artifacts"] if entry["name"] == artifact["name"])["jwe"]
        # Only the entry made for this key is opened.
        mine = [r for r in wrapped["recipients"] if r["header"]["kid"] == key_file["kid"]]
        if mine:
            token = jwe.JWE()
            token.deserialize(json.dumps({**wrapped, "recipients": mine}), jwk.JWK(**private_key(key_file)))
            return token.payload
    sys.exit("the data key was not wrapped for this key")


def opened(stored, key, associated_data):
    streaming_aead.register()
    params = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
        ciphertext_segment_size=1 << 20, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
    )
    value = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(version=0, params=params, key_value=key)
    keyset = tink_pb2.Keyset(primary_key_id=1)
    entry = keyset.key.add(status=tink_pb2.ENABLED, key_id=1, output_prefix_type=tink_pb2.RAW)
    entry.key_data.type_url = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"
    entry.key_data.value = value.SerializeToString()
    entry.key_data.key_material_type = tink_pb2.KeyData.SYMMETRIC
    handle = cleartext_keyset_handle.read(tink.BinaryKeysetReader(keyset.SerializeToString()))
    primitive = handle.primitive(streaming_aead.StreamingAead)
    with primitive.new_decrypting_stream(io.BytesIO(stored), associated_data.encode()) as stream:
        return stream.read()


def unpacked(compressed, compression):
    codec = compression["codec"]
    if codec == "none":
        return compressed
    command = [codec, "-d", "-c"]
    if "longWindow" in compression:
        command.append(f"--long={compression['longWindow']}")
    return subprocess.run(command, input=compressed, stdout=subprocess.PIPE, check=True).stdout


def main(folder, key_path, name=None):
    folder = pathlib.Path(folder)
    key_file = json.loads(pathlib.Path(key_path).read_text("utf-8"))
    manifest = verified_manifest(folder, key_file)
    artifact = next(a for a in manifest["artifacts"] if name in (None, a["name"]))
    stored = (folder / artifact["object"]).read_bytes()
    if len(stored) != artifact["storedBytes"] or hashlib.sha256(stored).hexdigest() != artifact["storedSha256"]:
        sys.exit("the stored object is not the one of the manifest")
    compressed = stored
    if artifact["encryption"] is not None:
        key = data_key(folder, artifact, key_file)
        compressed = opened(stored, key, artifact["encryption"]["associatedData"])
    tool_bytes = unpacked(compressed, artifact["compression"])
    if len(tool_bytes) != artifact["toolBytes"]:
        sys.exit("the tool's bytes have another length")
    sys.stdout.buffer.write(tool_bytes)


if __name__ == "__main__":
    main(*sys.argv[1:])
