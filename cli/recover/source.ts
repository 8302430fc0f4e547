/** Opens a backup straight from its destination: no catalog, no server, no Temporal. Trust comes from the key file or a fingerprint. */
import { HoldfastError } from '../../model/errors.ts'
import { backupIdPattern, slugPattern } from '../../model/ids.ts'
import {
  epochSchema,
  installationSchema,
  type KeySidecar,
  type KmsKey,
  type Manifest,
} from '../../model/manifest.ts'
import { type ListedBackup, listBackups, loadBackup } from '../../storage/backups.ts'
import type { Destination } from '../../storage/destination.ts'
import { kindOfUri, openDestination, parseDestinationUri } from '../../storage/index.ts'
import {
  type AnyKeyFile,
  type Jwk,
  kidOfKms,
  loadAnyKeyFile,
  type OpeningKey,
  thumbprint,
} from '../../storage/keys.ts'
import { openLockedKey } from '../../storage/locked-keys.ts'
import { verifyManifest } from '../../storage/manifest.ts'
import { dataKeyFrom } from '../../storage/sidecars.ts'
import { unwrapDataKey, wrappedFor } from '../../storage/wrap.ts'

export interface SourceOptions {
  /** A destination, or one backup of it: `…/CONNECTION/backups/ID`. */
  uri: string
  keyFile?: string
  /** A key of a key management service, without a file that names it. */
  kms?: KmsKey
  /** Called when something is to be opened with a key file that is locked. */
  passphrase(): Promise<string>
  /** SHA-256 thumbprint (RFC 7638, base64url) of the signing key of an installation that is trusted. */
  fingerprint?: string
  endpoint?: string
  region?: string
  pathStyle?: boolean
  account?: string
}

export interface Source {
  destination: Destination
  /** When the URI names one backup. */
  named: { connection: string; backupId: string } | undefined
  key: { kid: string; open(): Promise<OpeningKey> } | undefined
  trusted: Record<string, Jwk>
}

export interface OpenedBackup {
  manifest: Manifest
  /** null for an artifact that is not encrypted. */
  dataKey(artifact: string): Promise<Uint8Array | null>
}

/** The caller closes `destination`. Store credentials are those of the environment, as the store's own tools find them. */
export async function openSource(options: SourceOptions): Promise<Source> {
  const { root, named } = splitUri(options.uri)
  const { kind, uri, settings } = parseDestinationUri(root, {
    endpoint: options.endpoint,
    region: options.region,
    pathStyle: options.pathStyle,
    account: options.account ?? (kindOfUri(root) === 'azure' ? process.env.AZURE_STORAGE_ACCOUNT : undefined),
  })
  const { keyFile, kms } = options
  if (keyFile !== undefined && kms !== undefined) {
    throw new HoldfastError('request.invalid', 'Give a key file or a key of a KMS, not both.')
  }
  const ofService = kms && { name: kms.key, kid: kidOfKms(kms), kms }
  const key = keyFile === undefined ? ofService : await loadAnyKeyFile(keyFile)
  const destination = await openDestination(
    { name: 'recover', kind, uri, settings, secretFields: [], createdAt: new Date().toISOString() },
    {},
  )
  try {
    const trusted = key && 'installations' in key ? { ...key.installations } : {}
    if (options.fingerprint !== undefined) {
      Object.assign(trusted, await trustedBy(destination, options.fingerprint))
    }
    return {
      destination,
      named,
      key: key && { kid: key.kid, open: once(() => opened(key, options.passphrase)) },
      trusted,
    }
  } catch (error) {
    await destination.close()
    throw error
  }
}

/** Nobody is asked twice. */
function once<T>(ask: () => Promise<T>): () => Promise<T> {
  let answer: Promise<T> | undefined
  return () => {
    answer ??= ask()
    return answer
  }
}

const opened = (key: AnyKeyFile | OpeningKey, passphrase: () => Promise<string>): Promise<OpeningKey> =>
  'lockedKey' in key ? passphrase().then(text => openLockedKey(key, text)) : Promise.resolve(key)

function splitUri(uri: string): { root: string; named: Source['named'] } {
  const match = /^(.+)\/([^/]+)\/backups\/([^/]+?)(?:\/manifest\.json|\/)?$/.exec(uri)
  const [, root, connection, backupId] = match ?? []
  if (root === undefined || connection === undefined || backupId === undefined)
    return { root: uri, named: undefined }
  if (!slugPattern.test(connection) || !backupIdPattern.test(backupId)) return { root: uri, named: undefined }
  return { root, named: { connection, backupId } }
}

/** The keys of the destination's own documents are believed only because their thumbprint is the one given. */
async function trustedBy(destination: Destination, fingerprint: string): Promise<Record<string, Jwk>> {
  const wanted = fingerprint.trim().replace(/=+$/, '')
  const seen: string[] = []
  for (let epoch = 0; ; epoch++) {
    const body = await destination.read(epoch === 0 ? 'installation.json' : `epoch-${epoch}.json`)
    if (body === undefined) {
      if (epoch > 0) break
      continue
    }
    const document = (epoch === 0 ? installationSchema : epochSchema).safeParse(parse(body)).data
    if (document === undefined) continue
    const found = await thumbprint(document.publicKey).catch(() => '')
    if (found === wanted) return { [document.installationId]: document.publicKey }
    seen.push(found)
  }
  throw new HoldfastError(
    'manifest.forged',
    `No installation that wrote to ${destination.uri} has the fingerprint ${wanted}.`,
    { context: { found: [...new Set(seen)].join(' ') } },
  )
}

const parse = (body: Uint8Array): unknown => {
  try {
    return JSON.parse(Buffer.from(body).toString('utf8'))
  } catch {
    return undefined
  }
}

export interface FoundBackup extends ListedBackup {
  /** undefined: the manifest could not be trusted; `why` says so. */
  manifest?: Manifest
  why?: string
}

/** Backups of the destination, oldest first by id. */
export async function findBackups(source: Source): Promise<FoundBackup[]> {
  const found: FoundBackup[] = []
  for await (const listed of listBackups(source.destination)) {
    if (source.named !== undefined && source.named.backupId !== listed.backupId) continue
    if (listed.state !== 'committed') {
      found.push(listed)
      continue
    }
    try {
      found.push({ ...listed, manifest: await verifyManifest(listed.signed, source.trusted) })
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error
      found.push({ ...listed, why: error.code })
    }
  }
  return found.sort((a, b) => (a.backupId < b.backupId ? -1 : 1))
}

/** `reference`: an id or `CONNECTION:latest`; not needed when the URI names the backup. */
export async function openBackup(source: Source, reference: string | undefined): Promise<OpenedBackup> {
  if (Object.keys(source.trusted).length === 0) {
    throw new HoldfastError(
      'manifest.forged',
      'Nothing says whose backups to trust: give --key FILE (a key file names its installations) or --fingerprint.',
    )
  }
  return await openFound(source, await locate(source, reference))
}

/** Throws what is wrong with its manifest. */
export async function openFound(
  source: Source,
  { connection, backupId }: { connection: string; backupId: string },
): Promise<OpenedBackup> {
  const { manifest, keys } = await loadBackup(source.destination, connection, backupId, source.trusted)
  return { manifest, dataKey: artifact => dataKeyOf(source, manifest, keys, artifact) }
}

async function locate(
  source: Source,
  reference: string | undefined,
): Promise<{ connection: string; backupId: string }> {
  if (source.named !== undefined) return source.named
  if (reference === undefined) {
    throw new HoldfastError(
      'request.invalid',
      'This URI is a whole destination: say which backup with --backup ID or --backup CONNECTION:latest; --list shows them.',
    )
  }
  const match = /^(.+):(latest|previous)$/.exec(reference)
  const committed = (await findBackups(source)).filter(
    one => one.state === 'committed' && (match ? one.connection === match[1] : one.backupId === reference),
  )
  const found = committed.at(match?.[2] === 'previous' ? -2 : -1)
  if (found !== undefined) return found
  throw new HoldfastError(
    'backup.not-found',
    `There is no backup ${reference} in ${source.destination.uri}.`,
    {
      hint: '`holdfast recover URI --list` shows what is there.',
    },
  )
}

const dataKeyOf = (
  { key }: Source,
  manifest: Manifest,
  keys: readonly KeySidecar[],
  artifact: string,
): Promise<Uint8Array | null> =>
  dataKeyFrom(manifest, keys, artifact, async jwe => {
    // A passphrase is not asked for in vain.
    const fits = key !== undefined && wrappedFor(jwe).includes(key.kid)
    return await unwrapDataKey(jwe, fits ? [await key.open()] : [])
  })
