/**
 * A real S3 server for tests: Versity S3 Gateway on a throw-away directory. Built once per machine with Go into the
 * user's cache, shared by every clone.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { access, mkdir, mkdtemp, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { freePort } from '../../cli/free-port.ts'
import type { DestinationRecord } from '../../model/records.ts'

export const versitygwVersion = '1.8.0'
const region = 'us-east-1'
const startSeconds = 60
const buildSeconds = 15 * 60

export interface Versitygw {
  endpoint: string
  port: number
  /** Directory that holds the buckets; give it (and the port) to another start to go on where this one was. */
  root: string
  region: string
  accessKeyId: string
  secretAccessKey: string
  /** A bucket that is there; versioned if asked for. */
  bucket: string
  pid: number
  /** The record of a destination in `bucket` (the ready-made one unless another is named) below `prefix`. */
  destinationRecord(prefix: string, bucket?: string): DestinationRecord
  /** What goes with the record. */
  secrets: { accessKeyId: string; secretAccessKey: string }
  /** kill -9; the directory stays. */
  kill(): Promise<void>
  /** Stops the server and removes the directory, unless it was given. */
  stop(): Promise<void>
}

/** Starts a server on 127.0.0.1. `root`, `port`, `credentials`: of an earlier one that was killed. */
export async function startVersitygw(
  options: {
    versioning?: boolean
    root?: string
    port?: number
    credentials?: { accessKeyId: string; secretAccessKey: string }
  } = {},
): Promise<Versitygw> {
  const binary = await versitygwBinary()
  const root = options.root ?? (await mkdtemp(join(tmpdir(), 'holdfast-versitygw-')))
  const bucket = 'backups'
  for (const directory of ['buckets', join('buckets', bucket), 'iam', 'versions']) {
    await mkdir(join(root, directory), { recursive: true })
  }
  const secrets = options.credentials ?? {
    accessKeyId: `AK${randomBytes(8).toString('hex')}`,
    secretAccessKey: randomBytes(20).toString('base64url'),
  }
  const { child, port } = await startOn(binary, root, options, secrets)
  const endpoint = `http://127.0.0.1:${port}`

  const end = async (signal: 'SIGTERM' | 'SIGKILL') => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise(resolve => child.once('exit', resolve))
    child.kill(signal)
    await gone
  }
  const server: Versitygw = {
    endpoint,
    port,
    root,
    region,
    ...secrets,
    bucket,
    pid: child.pid ?? 0,
    destinationRecord: (prefix, named = bucket) => ({
      name: 'vault',
      kind: 's3',
      uri: prefix === '' ? `s3://${named}` : `s3://${named}/${prefix}`,
      settings: { endpoint, region, pathStyle: true },
      secretFields: Object.keys(secrets),
      createdAt: new Date().toISOString(),
    }),
    secrets,
    kill: () => end('SIGKILL'),
    async stop() {
      await end('SIGTERM')
      if (options.root === undefined) await rm(root, { recursive: true, force: true })
    },
  }
  if (options.versioning) {
    try {
      await enableVersioning(server)
    } catch (error) {
      await server.stop()
      throw error
    }
  }
  return server
}

/** A free port may be taken by somebody else before the server has it: then another one is tried. */
async function startOn(
  binary: string,
  root: string,
  options: { versioning?: boolean; port?: number },
  secrets: { accessKeyId: string; secretAccessKey: string },
): Promise<{ child: ChildProcess; port: number }> {
  const deadline = Date.now() + startSeconds * 1000
  for (;;) {
    const port = options.port ?? (await freePort())
    const args = ['--port', `127.0.0.1:${port}`, '--region', region, '--quiet', '--health', '/health']
    args.push('--iam-dir', join(root, 'iam'), 'posix')
    if (options.versioning) args.push('--versioning-dir', join(root, 'versions'))
    args.push(join(root, 'buckets'))
    const child = spawn(binary, args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: {
        PATH: process.env.PATH ?? '',
        ROOT_ACCESS_KEY: secrets.accessKeyId,
        ROOT_SECRET_KEY: secrets.secretAccessKey,
      },
    })
    let said = ''
    child.stderr?.on('data', (data: Buffer) => {
      said = (said + data.toString()).slice(-2000)
    })
    const failed = new Promise<void>(resolve => {
      child.once('exit', () => resolve())
      child.once('error', error => {
        said += error.message
        resolve()
      })
    })
    while (child.exitCode === null && child.signalCode === null && child.pid !== undefined) {
      if (await healthy(port)) {
        // Somebody else's server on this port would answer as well.
        if (child.exitCode === null) return { child, port }
      }
      if (Date.now() > deadline) {
        child.kill('SIGKILL')
        break
      }
      await Promise.race([failed, sleep(50)])
    }
    await failed
    if (Date.now() > deadline) throw new Error(`versitygw did not start within ${startSeconds} s: ${said}`)
    await sleep(100)
  }
}

async function healthy(port: number): Promise<boolean> {
  try {
    const answer = await fetch(`http://127.0.0.1:${port}/health`, { signal: AbortSignal.timeout(2000) })
    return answer.ok
  } catch {
    return false
  }
}

async function enableVersioning(server: Versitygw): Promise<void> {
  const { PutBucketVersioningCommand, S3Client } = await import('@aws-sdk/client-s3')
  const client = new S3Client({
    endpoint: server.endpoint,
    region,
    forcePathStyle: true,
    // The SDK writes into what it is given.
    credentials: { ...server.secrets },
  })
  await client.send(
    new PutBucketVersioningCommand({
      Bucket: server.bucket,
      VersioningConfiguration: { Status: 'Enabled' },
    }),
  )
  client.destroy()
}

// Getting it

/** Path of the binary; builds it with Go if this machine has not got it yet. */
export async function versitygwBinary(): Promise<string> {
  const tools = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'holdfast', 'tools')
  const directory = join(tools, `versitygw-${versitygwVersion}`)
  const binary = join(directory, 'versitygw')
  if (await executable(binary)) return binary
  await mkdir(tools, { recursive: true })
  const lock = `${directory}.lock`
  const deadline = Date.now() + buildSeconds * 1000
  while (!(await acquire(lock))) {
    await sleep(500)
    if (await executable(binary)) return binary
    if (Date.now() > deadline)
      throw new Error(`Somebody else has been building versitygw for too long; see ${lock}.`)
  }
  // Tells those who wait that the builder lives.
  const beat = setInterval(() => void utimes(lock, new Date(), new Date()).catch(() => undefined), 5000)
  try {
    if (!(await executable(binary))) await build(tools, directory)
  } finally {
    clearInterval(beat)
    await rm(lock, { force: true })
  }
  return binary
}

async function build(tools: string, directory: string): Promise<void> {
  const temporary = await mkdtemp(join(tools, 'building-versitygw-'))
  console.error(
    `Building versitygw ${versitygwVersion} (S3 server for the tests, once per machine, about two minutes) …`,
  )
  try {
    await promisify(execFile)(
      'go',
      ['install', `github.com/versity/versitygw/cmd/versitygw@v${versitygwVersion}`],
      {
        env: { ...process.env, GOBIN: temporary },
        timeout: buildSeconds * 1000,
        maxBuffer: 64 * 1024 * 1024,
      },
    )
    await rename(temporary, directory)
  } catch (error) {
    await rm(temporary, { recursive: true, force: true })
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') {
      throw new Error(
        `The S3 tests need versitygw ${versitygwVersion}: install Go (https://go.dev/dl) so that it can be built, or put the binary at ${join(directory, 'versitygw')}.`,
      )
    }
    throw error
  }
}

/** One builder at a time; a lock that nobody has touched for half a minute belongs to a builder that was killed. */
async function acquire(lock: string): Promise<boolean> {
  try {
    await writeFile(lock, String(process.pid), { flag: 'wx' })
    return true
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
    const found = await stat(lock).catch(() => undefined)
    if (found && Date.now() - found.mtimeMs > 30_000) await rm(lock, { force: true })
    return false
  }
}

async function executable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
