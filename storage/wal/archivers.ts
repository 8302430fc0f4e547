/**
 * Whose word counts in a log archive. An archiver says beside `stream.json` who it is, which anybody could; an installation vouches for
 * it there, once a person has compared the fingerprint with what the database host says. Whoever trusts the installation needs to be
 * told of no archiver.
 */
import { HoldfastError } from '../../model/errors.ts'
import { canonical } from '../../model/manifest.ts'
import {
  type ArchiverFile,
  type ArchiverRequest,
  archiverRequestSchema,
  vouchedArchiverSchema,
} from '../../model/wal-format.ts'
import type { CallOptions, Destination } from '../destination.ts'
import type { InstallationKeys, Jwk } from '../keys.ts'
import { putOnce } from '../settle.ts'
import { signText, whyNotSigned } from '../signature.ts'
import { type LogStream, streamPrefix } from './layout.ts'

const typ = 'holdfast-archiver'
const folderOf = (stream: LogStream) => `${streamPrefix(stream)}archivers/`
const requestKey = (stream: LogStream, archiver: string) => `${folderOf(stream)}${archiver}.request.json`

/** Asked again it changes nothing. Throws `wal.forged` where another key goes by this archiver's id. */
export async function askToBeVouchedFor(
  destination: Destination,
  stream: LogStream,
  { archiver, publicKey, createdAt }: Pick<ArchiverFile, 'archiver' | 'publicKey' | 'createdAt'>,
  options: CallOptions = {},
): Promise<void> {
  const { connection, systemIdentifier } = stream
  const request: ArchiverRequest = {
    format: 'holdfast-archiver-request/1',
    connection,
    systemIdentifier,
    archiver,
    publicKey,
    createdAt,
  }
  const key = requestKey(stream, archiver)
  const { ours } = await putOnce(destination, key, Buffer.from(canonical(request)), options)
  if (!ours) throw new HoldfastError('wal.forged', `${destination.uri}/${key} is of another archiver.`)
}

export interface ListedArchiver {
  request: ArchiverRequest
  /** Ids of installations that say so; whether it is true is for `vouchedFor`. */
  vouchers: string[]
}

/** Those that ask, or asked, in the order of their ids. What is none of this version is left out. */
export async function listArchivers(
  destination: Destination,
  stream: LogStream,
  options: CallOptions = {},
): Promise<ListedArchiver[]> {
  const names: string[] = []
  for await (const { key } of destination.list(folderOf(stream), options)) {
    names.push(key.slice(folderOf(stream).length))
  }
  const asking = names.flatMap(name => /^([A-Za-z0-9]+)\.request\.json$/.exec(name)?.[1] ?? [])
  const found: ListedArchiver[] = []
  for (const archiver of asking.sort()) {
    const request = archiverRequestSchema.safeParse(
      await documentAt(destination, requestKey(stream, archiver), options),
    )
    if (!request.success || !isOf(stream, archiver, request.data)) continue
    const vouchers = names.flatMap(name => {
      const [, of, by] = /^([A-Za-z0-9]+)\.([A-Za-z0-9]+)\.json$/.exec(name) ?? []
      return of === archiver && by !== undefined && by !== 'request' ? [by] : []
    })
    found.push({ request: request.data, vouchers })
  }
  return found
}

/** Lasting, and once: what this installation has vouched for stays. */
export async function vouchFor(
  destination: Destination,
  { connection, systemIdentifier, archiver, publicKey }: ArchiverRequest,
  { installationId, signingKey }: Pick<InstallationKeys, 'installationId' | 'signingKey'>,
  options: CallOptions = {},
): Promise<void> {
  const document = {
    format: 'holdfast-vouched-archiver/1' as const,
    installationId,
    connection,
    systemIdentifier,
    archiver,
    publicKey,
    vouchedAt: new Date().toISOString(),
  }
  const signature = await signText(canonical(document), { kid: installationId, typ }, signingKey)
  const key = `${folderOf({ connection, systemIdentifier })}${archiver}.${installationId}.json`
  const body = Buffer.from(canonical({ ...document, signature }))
  await putOnce(destination, key, body, { lasting: true, ...options })
}

/** Public keys by the archiver's id, of those that one of these installations vouches for. */
export async function vouchedFor(
  destination: Destination,
  stream: LogStream,
  installations: Readonly<Record<string, Jwk>>,
  options: CallOptions = {},
): Promise<Record<string, Jwk>> {
  const found: Record<string, Jwk> = {}
  for await (const { key } of destination.list(folderOf(stream), options)) {
    const [, archiver = '', by = ''] = /\/([A-Za-z0-9]+)\.([A-Za-z0-9]+)\.json$/.exec(key) ?? []
    const installation = Object.hasOwn(installations, by) ? installations[by] : undefined
    if (installation === undefined) continue
    const document = await documentAt(destination, key, options)
    const parsed = vouchedArchiverSchema.safeParse(document)
    if (!parsed.success || parsed.data.installationId !== by || !isOf(stream, archiver, parsed.data)) continue
    // What is checked is the document as it was read, not what the schema made of it.
    const { signature, ...asRead } = document as { signature: string }
    const header = { kid: by, typ }
    if ((await whyNotSigned(signature, canonical(asRead), header, installation)) !== undefined) continue
    found[archiver] = parsed.data.publicKey
  }
  return found
}

const isOf = (
  stream: LogStream,
  archiver: string,
  said: Pick<ArchiverRequest, 'connection' | 'systemIdentifier' | 'archiver'>,
): boolean =>
  said.connection === stream.connection &&
  said.systemIdentifier === stream.systemIdentifier &&
  said.archiver === archiver

async function documentAt(destination: Destination, key: string, options: CallOptions): Promise<unknown> {
  const body = await destination.read(key, options)
  try {
    return JSON.parse(Buffer.from(body ?? []).toString('utf8'))
  } catch {
    return undefined
  }
}
