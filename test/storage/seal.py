"""Seals standard input with Google's Tink: argv = data key (hex), associated data. Used by formats.test.ts."""

import io
import sys

import tink
from tink import cleartext_keyset_handle, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

streaming_aead.register()
params = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
    ciphertext_segment_size=1 << 20, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
)
value = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(
    version=0, params=params, key_value=bytes.fromhex(sys.argv[1])
)
keyset = tink_pb2.Keyset(primary_key_id=1)
entry = keyset.key.add(status=tink_pb2.ENABLED, key_id=1, output_prefix_type=tink_pb2.RAW)
entry.key_data.type_url = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"
entry.key_data.value = value.SerializeToString()
entry.key_data.key_material_type = tink_pb2.KeyData.SYMMETRIC
handle = cleartext_keyset_handle.read(tink.BinaryKeysetReader(keyset.SerializeToString()))
primitive = handle.primitive(streaming_aead.StreamingAead)
sealed = io.BytesIO()
sealed.close, close = lambda: None, sealed.close
with primitive.new_encrypting_stream(sealed, sys.argv[2].encode()) as stream:
    stream.write(sys.stdin.buffer.read())
sys.stdout.buffer.write(sealed.getvalue())
