/** The registry of destinations: one line per kind, and what people may type for each. */
import { resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { HoldfastError } from '../model/errors.ts'
import type { DestinationRecord } from '../model/records.ts'
import type { DestinationKind, Json } from '../model/types.ts'
import type { Destination } from './destination.ts'
import { openLocalDestination } from './local/index.ts'
import { segmentTrouble } from './object-key.ts'
import { readS3Settings, s3SettingsFrom } from './s3/settings.ts'

/** What may be said beside the URI: flags of the CLI, fields of the API. */
export interface DestinationExtras {
  endpoint?: string | undefined
  region?: string | undefined
  pathStyle?: boolean | undefined
}

export interface ParsedDestination {
  kind: DestinationKind
  /** Canonical: `file:///dir`, `s3://bucket/prefix`; never credentials. */
  uri: string
  settings: Record<string, Json>
}

const schemes: Record<string, DestinationKind> = {
  file: 'local',
  path: 'local',
  s3: 's3',
  aws: 's3',
  amazon: 's3',
  s3compatible: 's3',
  's3-compatible': 's3',
  minio: 's3',
}
/** Nobody has a default endpoint for these. */
const needEndpoint = ['s3compatible', 's3-compatible', 'minio']

/**
 * Opens the destination; touches nothing yet. `secrets` by field: accessKeyId, secretAccessKey, sessionToken (none: the
 * credentials of the environment, as the AWS SDK finds them). The caller closes it. Throws `request.invalid`.
 */
export async function openDestination(
  record: DestinationRecord,
  secrets: Record<string, string>,
): Promise<Destination> {
  switch (record.kind) {
    case 'local':
      return openLocalDestination(parseDestinationUri(record.uri).uri)
    case 's3': {
      // The SDK is large: who keeps backups in a directory does without it.
      const { openS3Destination } = await import('./s3/index.ts')
      const settings = readS3Settings(record.settings)
      return openS3Destination(parseDestinationUri(record.uri, settings).uri, settings, secrets)
    }
  }
}

/** Reads what a person types: `file:///dir`, an absolute path, `s3://bucket/prefix`. Throws `request.invalid` saying why. */
export function parseDestinationUri(text: string, extras: DestinationExtras = {}): ParsedDestination {
  if (/\p{Cc}/u.test(text)) invalid('it holds control characters')
  const match = /^([A-Za-z][A-Za-z0-9+.-]*):(.*)$/.exec(text)
  const [, typed = 'path', rest = text] = match ?? []
  const scheme = typed.toLowerCase()
  const kind = Object.hasOwn(schemes, scheme) ? schemes[scheme] : undefined
  if (!kind) invalid(`"${typed}:" is not one of ${Object.keys(schemes).join(', ')}`)
  return kind === 'local' ? parseLocal(scheme, rest, extras) : parseS3(scheme, rest, extras)
}

function parseLocal(scheme: string, rest: string, extras: DestinationExtras): ParsedDestination {
  for (const name of ['endpoint', 'region', 'pathStyle'] as const) {
    if (extras[name] !== undefined) invalid(`${name} has no meaning for a directory`)
  }
  const path = scheme === 'file' ? pathOfFileUrl(rest) : rest.replace(/^\/\/(?=\/)/, '')
  if (!path.startsWith('/')) invalid('a directory must be given as an absolute path')
  const trouble = path
    .split('/')
    .filter(segment => segment !== '')
    .map(segmentTrouble)
    .find(found => found !== undefined)
  if (trouble) invalid(`the path ${trouble}`)
  const root = resolve(path)
  if (root === '/') invalid('the root of the file system cannot be a destination')
  return { kind: 'local', uri: pathToFileURL(root).href, settings: {} }
}

function pathOfFileUrl(rest: string): string {
  if (!rest.startsWith('/')) invalid('a file URI has three slashes: file:///directory')
  // The URL parser would take '..' away before anybody saw it.
  if (/(^|\/)(\.|%2e){1,2}(\/|$)/i.test(rest)) invalid('the path has "." or ".." as a segment')
  let url: URL
  try {
    url = new URL(`file:${rest}`)
    if (url.search || url.hash) invalid('"?" and "#" in a file URI must be written %3F and %23')
    return fileURLToPath(url)
  } catch (error) {
    if (error instanceof HoldfastError) throw error
    return invalid('it is not a file URI on this machine')
  }
}

function parseS3(scheme: string, rest: string, extras: DestinationExtras): ParsedDestination {
  const match = /^\/\/([^/]*)(?:\/(.*))?$/.exec(rest)
  if (!match) invalid(`it must look like ${scheme}://bucket/prefix`)
  const [, bucket = '', rawPrefix = ''] = match
  if (bucket.includes('@')) {
    invalid('credentials do not belong into the URI; give the access key and the secret key as secrets')
  }
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(bucket)) {
    invalid('the bucket name must have 3 to 63 lower-case letters, digits, dots and dashes')
  }
  if (/[?#]/.test(rawPrefix))
    invalid('settings do not belong into the URI; "?" and "#" cannot be in a prefix')
  const prefix = rawPrefix.replace(/\/+$/, '')
  const trouble = prefix === '' ? undefined : prefix.split('/').map(segmentTrouble).find(Boolean)
  if (trouble) invalid(`the prefix ${trouble}`)
  // Keys below it have to fit into S3's 1,024 bytes.
  if (Buffer.byteLength(prefix) > 512) invalid('the prefix is over 512 bytes')
  if (needEndpoint.includes(scheme) && extras.endpoint === undefined) {
    invalid(`${scheme}: needs an endpoint, e.g. https://minio.example.com:9000`)
  }
  return {
    kind: 's3',
    uri: prefix === '' ? `s3://${bucket}` : `s3://${bucket}/${prefix}`,
    settings: s3SettingsFrom({ ...extras }),
  }
}

/** The text itself is not repeated: it may hold a password. */
function invalid(why: string): never {
  throw new HoldfastError('request.invalid', `The destination URI cannot be used: ${why}.`, {
    context: { field: 'uri' },
  })
}
