/** `wal.json` of a database host: where its log files go, and what opens and signs them. */
import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import type { z } from 'zod'
import { resolveSecrets } from '../../catalog/secret-references.ts'
import { HoldfastError } from '../../model/errors.ts'
import { parseReference, storedReference } from '../../model/secret-references.ts'
import {
  type ArchiverFile,
  archiverFileSchema,
  type WalConfig,
  walConfigSchema,
} from '../../model/wal-format.ts'
import type { Destination } from '../../storage/destination.ts'
import { kindOfUri, openDestination, parseDestinationUri } from '../../storage/index.ts'
import {
  type AnyKeyFile,
  isLocked,
  type Jwk,
  loadAnyKeyFile,
  loadRecipientFile,
  type OpeningKey,
  type Recipient,
  recipientOf,
} from '../../storage/keys.ts'

const longestSocket = 107

/** Everything opened; nothing asked yet. The destinations are closed by whoever has opened it. */
export interface OpenedConfig {
  stream: { connection: string; systemIdentifier: string }
  destinations: Destination[]
  archiver: ArchiverFile
  /** null: what is archived is not encrypted. */
  recipients: Recipient[] | null
  keys: OpeningKey[]
  trusted: Record<string, Jwk>
  /** Those whose word is taken for archivers. */
  installations: Record<string, Jwk>
  socket: string
  lookAhead: number
  prefetch: number
  patienceSeconds: number
}

/** Throws `settings.invalid`, `key.*`, `secret.*`, `request.invalid`. */
export async function openConfig(path: string): Promise<OpenedConfig> {
  const config = await readJson(path, walConfigSchema)
  const near = (name: string) => resolve(dirname(path), name)
  const archiver = await readJson(near(config.archiver), archiverFileSchema)
  const socket = near(config.socket ?? 'wal.sock')
  if (Buffer.byteLength(socket) > longestSocket) {
    throw new HoldfastError(
      'settings.invalid',
      `Reading ${path}: the socket ${socket} has too long a path.`,
      {
        hint: `Name a shorter one under socket: the kernel takes ${longestSocket} bytes.`,
      },
    )
  }
  const keys = await Promise.all((config.openWith ?? []).map(one => openingKeyIn(near(one))))
  const installations: Record<string, Jwk> = Object.assign(
    {},
    config.installations,
    ...keys.map(key => key.installations),
  )
  const destinations: Destination[] = []
  try {
    for (const one of config.destinations) destinations.push(await opened(path, one))
    return {
      stream: { connection: config.connection, systemIdentifier: config.systemIdentifier },
      destinations,
      archiver,
      recipients:
        config.encryptTo === 'nobody'
          ? null
          : await Promise.all(config.encryptTo.map(one => recipientIn(near(one)))),
      keys,
      installations,
      trusted: {
        ...installations,
        ...config.trust,
        [archiver.archiver]: archiver.publicKey,
      },
      socket,
      lookAhead: config.lookAhead ?? 4,
      prefetch: config.prefetch ?? 4,
      patienceSeconds: config.patienceSeconds ?? 20,
    }
  } catch (error) {
    for (const destination of destinations) await destination.close()
    throw error
  }
}

async function opened(path: string, one: WalConfig['destinations'][number]): Promise<Destination> {
  for (const [field, text] of Object.entries(one.credentials ?? {})) {
    if (parseReference(text) !== undefined) continue
    throw new HoldfastError(
      'settings.invalid',
      `Reading ${path}: the ${field} of ${one.uri} is no reference to a secret.`,
      { hint: 'Secrets are not kept there: write env:NAME, file:/path or vault:MOUNT/PATH#FIELD.' },
    )
  }
  const stored = Object.entries(one.credentials ?? {}).map(([field, text]) => [field, storedReference(text)])
  const secrets = await resolveSecrets(Object.fromEntries(stored))
  const account = kindOfUri(one.uri) === 'azure' ? process.env.AZURE_STORAGE_ACCOUNT : undefined
  const { kind, uri, settings } = parseDestinationUri(one.uri, { account, ...one.settings }, secrets)
  const createdAt = new Date().toISOString()
  return await openDestination({ name: 'wal', kind, uri, settings, secretFields: [], createdAt }, secrets)
}

const recipientIn = async (path: string): Promise<Recipient> =>
  path.endsWith('.pub.json') ? await loadRecipientFile(path) : recipientOf(await loadAnyKeyFile(path))

/** Nobody is there to type a passphrase while a server recovers. */
async function openingKeyIn(path: string): Promise<OpeningKey & Pick<AnyKeyFile, 'installations'>> {
  const key = await loadAnyKeyFile(path)
  if (!isLocked(key)) return key
  throw new HoldfastError('key.locked', `Opening ${path}: a passphrase locks it, and recovery asks nobody.`, {
    hint: 'Name a key file without a passphrase under openWith, for as long as the recovery takes.',
  })
}

async function readJson<T>(path: string, schema: z.ZodType<T>): Promise<T> {
  const invalid = (why: string, cause?: unknown) =>
    new HoldfastError('settings.invalid', `Reading ${path}: ${why}.`, {
      hint: 'Make it with `holdfast wal init`; docs/log-archiving.md says what may be in it.',
      cause,
    })
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    throw invalid(
      `it cannot be read (${cause instanceof Error && 'code' in cause ? cause.code : 'unknown'})`,
      cause,
    )
  }
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch {
    // The parser's message may quote a private key.
    throw invalid('it is not JSON')
  }
  const parsed = schema.safeParse(document)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw invalid(`${issue?.path.join('.') || 'the document'} is not as this version has it`)
}
