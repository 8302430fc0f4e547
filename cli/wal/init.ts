/** Makes the configuration of a database host: `wal.json`, and beside it the key that signs what is archived from there. */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { link, mkdir, open, readFile, rm } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import { HoldfastError } from '../../model/errors.ts'
import { readable } from '../../model/ids.ts'
import { systemIdentifierIn } from '../../model/wal.ts'
import { type ArchiverFile, type WalConfig, walConfigSchema } from '../../model/wal-format.ts'
import { type Jwk, loadAnyKeyFile, thumbprint } from '../../storage/keys.ts'

export interface InitOptions {
  config: string
  connection: string
  dataDirectory: string
  to: string[]
  /** Key files; empty: not encrypted. */
  encryptTo: string[]
  settings: Partial<NonNullable<WalConfig['destinations'][number]['settings']>>
}

export interface InitAnswer {
  config: string
  systemIdentifier: string
  archiver: string
  publicKey: Jwk
  /** Of that key: what an installation is told when it is to vouch for this archiver. */
  fingerprint: string
  archiveCommand: string
  restoreCommand: string
}

/** Nothing is written over. Throws `request.invalid`, `request.exists`. */
export async function initWal(options: InitOptions): Promise<InitAnswer> {
  const path = resolve(options.config)
  const folder = dirname(path)
  const systemIdentifier = await identifierOf(resolve(options.dataDirectory))
  const archiver = newArchiver()
  const installations = await namedIn(options.encryptTo)
  const near = (file: string) => relative(folder, resolve(file))
  const config: WalConfig = {
    format: 'holdfast-wal-config/1',
    connection: options.connection,
    systemIdentifier,
    destinations: options.to.map(uri => ({
      uri,
      ...(Object.keys(options.settings).length > 0 && { settings: options.settings }),
    })),
    archiver: 'archiver.json',
    encryptTo: options.encryptTo.length === 0 ? 'nobody' : options.encryptTo.map(near),
    ...(Object.keys(installations).length > 0 && { installations }),
  }
  const checked = walConfigSchema.safeParse(config)
  if (!checked.success) {
    const field = checked.error.issues[0]?.path.join('.')
    throw new HoldfastError('request.invalid', `Making ${path}: its ${field} would not be valid.`)
  }
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const archiverPath = join(folder, 'archiver.json')
  await writeNewFile(archiverPath, archiver)
  await writeNewFile(path, checked.data).catch(async error => {
    await rm(archiverPath, { force: true })
    throw error
  })
  return {
    config: path,
    systemIdentifier,
    archiver: archiver.archiver,
    publicKey: archiver.publicKey,
    fingerprint: await thumbprint(archiver.publicKey),
    archiveCommand: `holdfast wal push --config ${path} %p`,
    restoreCommand: `holdfast wal fetch --config ${path} %f %p`,
  }
}

/** A key file says whom its owner trusts; a public key says nothing of that. */
async function namedIn(files: readonly string[]): Promise<Record<string, Jwk>> {
  const keys = files.filter(file => !file.endsWith('.pub.json'))
  return Object.assign({}, ...(await Promise.all(keys.map(loadAnyKeyFile))).map(key => key.installations))
}

async function identifierOf(dataDirectory: string): Promise<string> {
  const path = join(dataDirectory, 'global', 'pg_control')
  const control = await readFile(path).catch(cause => {
    const code = cause instanceof Error && 'code' in cause ? cause.code : 'unknown'
    throw new HoldfastError('request.invalid', `Reading ${path}: it cannot be read (${code}).`, {
      hint: 'Give the data directory of the server with --pgdata, as the user that PostgreSQL runs as.',
      cause,
    })
  })
  const found = systemIdentifierIn(control)
  if (found !== undefined && found !== '0') return found
  throw new HoldfastError('request.invalid', `${path} names no server.`)
}

function newArchiver(): ArchiverFile {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  return {
    format: 'holdfast-archiver/1',
    archiver: readable(randomBytes(16)),
    createdAt: new Date().toISOString(),
    signingKey: privateKey.export({ format: 'jwk' }) as Jwk,
    publicKey: publicKey.export({ format: 'jwk' }) as Jwk,
  }
}

/** 0600, whole or not at all. */
async function writeNewFile(path: string, document: object): Promise<void> {
  const draft = `${path}.${randomBytes(6).toString('hex')}`
  try {
    const file = await open(draft, 'wx', 0o600)
    try {
      await file.writeFile(`${JSON.stringify(document, null, 2)}\n`)
      await file.sync()
    } finally {
      await file.close()
    }
    await link(draft, path)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') {
      throw new HoldfastError('request.exists', `Making ${path}: it is there already.`)
    }
    throw error
  } finally {
    await rm(draft, { force: true })
  }
}
