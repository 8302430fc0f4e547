/**
 * A server of Azure's blob protocol for tests: Azurite, Microsoft's own, on a throw-away directory. Installed once per
 * machine by npm into the user's cache, by version.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { get, type IncomingMessage } from 'node:http'
import { get as getSecurely } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { ContainerClient, ContainerSASPermissions, StorageSharedKeyCredential } from '@azure/storage-blob'
import { freePort } from '../../cli/free-port.ts'
import type { DestinationRecord } from '../../model/records.ts'
import { isThere, locked, toolsDirectory } from './cache.ts'

const azuriteVersion = '3.36.0'
const startSeconds = 60

export interface Azurite {
  /** With the account in its path. */
  endpoint: string
  port: number
  pid: number
  account: string
  accountKey: string
  /** Holds what is stored; give it, port and key to another start to go on where this one was. */
  root: string
  /** A container that is there. */
  container: string
  containerClient: ContainerClient
  destinationRecord(prefix: string, container?: string): DestinationRecord
  secrets: { accountKey: string }
  /** For other people's tools: the container with a signature that allows everything in it, for a day. */
  signedUrl(): Promise<string>
  /** kill -9; the directory stays. */
  kill(): Promise<void>
  /** Stops the server and removes the directory, unless it was given. */
  stop(): Promise<void>
}

/** `tls`: then over https alone, and it takes tokens as Entra ID's, too, looking at all of them but the signature. */
export async function startAzurite(
  options: {
    root?: string
    port?: number
    accountKey?: string
    tls?: { cert: string; key: string; ca: string }
  } = {},
): Promise<Azurite> {
  const program = await azurite()
  const root = options.root ?? (await mkdtemp(join(tmpdir(), 'holdfast-azurite-')))
  const account = 'holdfasttest'
  const accountKey = options.accountKey ?? randomBytes(64).toString('base64')
  const { child, port } = await startOn(program, root, options, account, accountKey)
  const endpoint = `${options.tls ? 'https' : 'http'}://127.0.0.1:${port}/${account}`
  const container = 'backups'
  const containerClient = new ContainerClient(
    `${endpoint}/${container}`,
    new StorageSharedKeyCredential(account, accountKey),
  )
  await containerClient.createIfNotExists()

  const end = async (signal: 'SIGTERM' | 'SIGKILL') => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise(resolve => child.once('exit', resolve))
    child.kill(signal)
    await gone
  }
  return {
    endpoint,
    port,
    pid: child.pid ?? 0,
    account,
    accountKey,
    root,
    container,
    containerClient,
    destinationRecord: (prefix, named = container) => ({
      name: 'blobs',
      kind: 'azure',
      uri: prefix === '' ? `azure://${named}` : `azure://${named}/${prefix}`,
      settings: { account, endpoint },
      secretFields: ['accountKey'],
      createdAt: new Date().toISOString(),
    }),
    secrets: { accountKey },
    signedUrl: () =>
      containerClient.generateSasUrl({
        permissions: ContainerSASPermissions.parse('racwdl'),
        expiresOn: new Date(Date.now() + 86_400_000),
      }),
    kill: () => end('SIGKILL'),
    async stop() {
      await end('SIGTERM')
      if (options.root === undefined) await rm(root, { recursive: true, force: true })
    },
  }
}

/** A free port may be taken by somebody else before the server has it: then another one is tried. */
async function startOn(
  program: string,
  root: string,
  { port: fixedPort, tls }: { port?: number; tls?: { cert: string; key: string; ca: string } },
  account: string,
  accountKey: string,
): Promise<{ child: ChildProcess; port: number }> {
  const deadline = Date.now() + startSeconds * 1000
  for (;;) {
    const port = fixedPort ?? (await freePort())
    const args = [program, '--blobHost', '127.0.0.1', '--blobPort', String(port), '--location', root]
    if (tls) args.push('--oauth', 'basic', '--cert', tls.cert, '--key', tls.key)
    const child = spawn(
      process.execPath,
      [...args, '--silent', '--disableTelemetry', '--skipApiVersionCheck'],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { PATH: process.env.PATH ?? '', AZURITE_ACCOUNTS: `${account}:${accountKey}` },
      },
    )
    let said = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data: Buffer) => {
        said = (said + data.toString()).slice(-2000)
      })
    }
    const failed = new Promise<void>(resolve => child.once('exit', () => resolve()))
    while (child.exitCode === null && child.signalCode === null) {
      if ((await answers(port, tls?.ca)) && child.exitCode === null) return { child, port }
      if (Date.now() > deadline) {
        child.kill('SIGKILL')
        break
      }
      await Promise.race([failed, sleep(50)])
    }
    await failed
    if (Date.now() > deadline) throw new Error(`azurite did not start within ${startSeconds} s: ${said}`)
    await sleep(100)
  }
}

/** Any answer will do: without a signature it is a refusal, with Azurite's name in it. */
async function answers(port: number, ca: string | undefined): Promise<boolean> {
  try {
    const options = { port, host: '127.0.0.1', signal: AbortSignal.timeout(2000) }
    const asked = ca === undefined ? get(options) : getSecurely({ ...options, ca: await readFile(ca) })
    const [answer] = (await once(asked, 'response')) as [IncomingMessage]
    answer.resume()
    return /azurite/i.test(String(answer.headers.server))
  } catch {
    return false
  }
}

/** Path of its main file; installs it if this machine has not got it yet. */
async function azurite(): Promise<string> {
  const digest = createHash('sha256').update(azuriteVersion).digest('hex').slice(0, 8)
  const home = join(toolsDirectory, `azurite-${azuriteVersion}-${digest}`)
  const main = join(home, 'node_modules', 'azurite', 'dist', 'src', 'blob', 'main.js')
  if (await isThere(main)) return main
  await mkdir(toolsDirectory, { recursive: true })
  await locked(`${home}.lock`, async () => {
    if (await isThere(main)) return
    process.stderr.write(`npm: installing azurite ${azuriteVersion}, once per machine\n`)
    const scratch = await mkdtemp(join(toolsDirectory, 'building-azurite-'))
    try {
      await writeFile(join(scratch, 'package.json'), '{"private":true}')
      const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--omit=dev', '--save-exact']
      await promisify(execFile)('npm', ['install', ...flags, `azurite@${azuriteVersion}`], {
        cwd: scratch,
        maxBuffer: 64 * 1024 * 1024,
      })
      await rename(scratch, home)
    } finally {
      await rm(scratch, { recursive: true, force: true })
    }
  })
  return main
}
