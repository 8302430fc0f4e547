/** Documents signed by an installation: a compact JWS (EdDSA) with detached payload over their canonical text. */
import { CompactSign, compactVerify, decodeProtectedHeader } from 'jose'
import type { Jwk } from './keys.ts'

/** `kid`: the installation's id. `typ`: what kind of document it is; one is not taken for another. */
interface Header {
  kid: string
  typ: string
}

/** `key`: the installation's Ed25519 private key. */
export async function signText(text: string, header: Header, key: Jwk): Promise<string> {
  const jws = await new CompactSign(Buffer.from(text))
    .setProtectedHeader({ alg: 'EdDSA', ...header })
    .sign(key)
  const [head, , signature] = jws.split('.')
  return `${head}..${signature}`
}

/** undefined: `key` signed exactly this text as this kind of document. Otherwise why not, in words. */
export async function whyNotSigned(
  signature: string,
  text: string,
  expected: Header,
  key: Jwk,
): Promise<string | undefined> {
  const [head, payload, mark, ...more] = signature.split('.')
  if (head === undefined || payload !== '' || mark === undefined || more.length > 0) {
    return 'its signature is not a detached JWS'
  }
  const jws = `${head}.${Buffer.from(text).toString('base64url')}.${mark}`
  try {
    const { kid, typ } = decodeProtectedHeader(jws)
    if (kid !== expected.kid || typ !== expected.typ) throw new Error('other header')
    await compactVerify(jws, key, { algorithms: ['EdDSA'] })
    return undefined
  } catch {
    return `the signature is not installation ${expected.kid}'s over these contents`
  }
}
