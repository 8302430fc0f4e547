/**
 * The first line of an archived log file: signed JSON that says what follows. A reader proves a file by it, and a writer finds
 * out whether what is there is what it has, without fetching the rest.
 */
import { CompactSign, compactVerify, decodeProtectedHeader } from 'jose'
import { HoldfastError } from '../../model/errors.ts'
import { canonical } from '../../model/manifest.ts'
import {
  type ArchiverFile,
  type SignedWalHeader,
  signedWalHeaderSchema,
  type WalHeader,
} from '../../model/wal-format.ts'
import type { Jwk } from '../keys.ts'
import type { LogStream } from './layout.ts'

const typ = 'holdfast-wal'
/** With its line feed. */
export const maxHeaderBytes = 64 << 10

/** Who archives, and its signature for a header that names it; the key may be elsewhere. */
export interface LogSigner {
  archiver: string
  sign(header: WalHeader): Promise<string>
}

export const signerOf = ({ archiver, signingKey }: ArchiverFile): LogSigner => ({
  archiver,
  sign: header => signatureOf(header, signingKey),
})

/** Compact JWS with detached payload. `signingKey`: Ed25519. */
export async function signatureOf(header: WalHeader, signingKey: Jwk): Promise<string> {
  const jws = await new CompactSign(Buffer.from(canonical(header)))
    .setProtectedHeader({ alg: 'EdDSA', kid: header.archiver, typ })
    .sign(signingKey)
  const [protectedHeader, , mark] = jws.split('.')
  return `${protectedHeader}..${mark}`
}

/** The line, with its line feed. */
export async function headerLine(header: WalHeader, signer: LogSigner): Promise<Buffer> {
  const signed: SignedWalHeader = { ...header, signature: await signer.sign(header) }
  const line = Buffer.from(`${canonical(signed)}\n`)
  if (line.length > maxHeaderBytes) throw new RangeError('a header has 64 KiB at most')
  return line
}

/** What an object says of itself, proven to be of a trusted archiver. */
export interface ProvenHeader extends WalHeader {
  /** Where the body begins. */
  headerBytes: number
}

/**
 * `beginning`: of the object, its first 64 KiB or all of it. `trusted`: Ed25519 public keys by the archiver's id. Throws
 * `wal.damaged`, and `wal.forged` where it is of somebody else or says that it is another file.
 */
export async function provenHeader(
  beginning: Buffer,
  trusted: Record<string, Jwk>,
  expected: LogStream & { name: string },
): Promise<ProvenHeader> {
  const what = `Reading ${expected.name} from the archive of ${expected.connection}`
  const damaged = (why: string) => new HoldfastError('wal.damaged', `${what}: ${why}.`)
  const forged = (why: string) => new HoldfastError('wal.forged', `${what}: ${why}.`)
  const end = beginning.indexOf(0x0a)
  if (end === -1) throw damaged('it has no header')
  const document = asJson(beginning.subarray(0, end))
  const parsed = signedWalHeaderSchema.safeParse(document)
  if (!parsed.success) throw damaged('its header is none of this version')
  const { signature, ...header } = parsed.data
  const publicKey = Object.hasOwn(trusted, header.archiver) ? trusted[header.archiver] : undefined
  if (publicKey === undefined) throw forged(`archiver ${header.archiver} is not among the trusted ones`)
  // What is checked is the document as it was read, not what the schema made of it.
  const { signature: _, ...asRead } = document as Record<string, unknown>
  const [protectedHeader, payload, mark, ...more] = signature.split('.')
  const jws = `${protectedHeader}.${Buffer.from(canonical(asRead)).toString('base64url')}.${mark}`
  try {
    if (payload !== '' || more.length > 0) throw new Error('not detached')
    const said = decodeProtectedHeader(jws)
    if (said.kid !== header.archiver || said.typ !== typ) throw new Error('other header')
    await compactVerify(jws, publicKey, { algorithms: ['EdDSA'] })
  } catch {
    throw forged(`its header is not as archiver ${header.archiver} signed it`)
  }
  for (const field of ['connection', 'systemIdentifier', 'name'] as const) {
    if (header[field] !== expected[field]) throw forged(`it says that its ${field} is ${header[field]}`)
  }
  return { ...header, headerBytes: end + 1 }
}

/** What an object says of itself, whoever wrote it; undefined for what says nothing. Good for a look, not for a recovery. */
export function saidHeader(beginning: Buffer): WalHeader | undefined {
  const end = beginning.indexOf(0x0a)
  const parsed = signedWalHeaderSchema.safeParse(end === -1 ? undefined : asJson(beginning.subarray(0, end)))
  return parsed.data
}

function asJson(line: Buffer): unknown {
  try {
    return JSON.parse(line.toString('utf8'))
  } catch {
    return undefined
  }
}
