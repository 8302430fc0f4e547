/**
 * A server of Google Cloud Storage's JSON API for tests: fake-gcs-server keeps the objects; before it stands `sessions.ts`,
 * since resumable uploads are what it does not do as Google does. Built once per machine with Go into the user's cache.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { freePort } from '../../cli/free-port.ts'
import type { DestinationRecord } from '../../model/records.ts'
import { isThere, locked, toolsDirectory } from './cache.ts'
import { type SessionFront, startSessionFront } from './gcs-sessions.ts'

const version = '1.56.1'
const startSeconds = 60

export interface Gcs {
  endpoint: string
  bucket: string
  destinationRecord(prefix: string, bucket?: string): DestinationRecord
  secrets: Record<string, string>
  front: SessionFront
  /** Names of all objects in the bucket, and of open sessions. */
  kept(): Promise<string[]>
  stop(): Promise<void>
}

export async function startGcs(): Promise<Gcs> {
  const program = await fakeGcsServer()
  const root = await mkdtemp(join(tmpdir(), 'holdfast-gcs-'))
  const { child, port } = await startOn(program)
  const bucket = 'backups'
  const behind = `http://127.0.0.1:${port}`
  const made = await fetch(`${behind}/storage/v1/b?project=test`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name: bucket }),
  })
  if (!made.ok) throw new Error(`no bucket: ${made.status} ${await made.text()}`)
  const front = await startSessionFront(behind, root)
  return {
    endpoint: front.endpoint,
    bucket,
    destinationRecord: (prefix, named = bucket) => ({
      name: 'google',
      kind: 'gcs',
      uri: prefix === '' ? `gcs://${named}` : `gcs://${named}/${prefix}`,
      settings: { endpoint: front.endpoint },
      secretFields: [],
      createdAt: new Date().toISOString(),
    }),
    secrets: {},
    front,
    async kept() {
      const names: string[] = []
      let page = ''
      do {
        const answer = await fetch(`${behind}/storage/v1/b/${bucket}/o${page}`)
        const { items = [], nextPageToken } = (await answer.json()) as {
          items?: { name: string }[]
          nextPageToken?: string
        }
        names.push(...items.map(item => item.name))
        page = nextPageToken ? `?pageToken=${encodeURIComponent(nextPageToken)}` : ''
      } while (page !== '')
      return [...names, ...front.open().map(name => `session ${name}`)].sort()
    },
    async stop() {
      await front.close()
      if (child.exitCode === null && child.signalCode === null) {
        const gone = new Promise(resolve => child.once('exit', resolve))
        child.kill('SIGTERM')
        await gone
      }
      await rm(root, { recursive: true, force: true })
    },
  }
}

async function startOn(program: string): Promise<{ child: ChildProcess; port: number }> {
  const deadline = Date.now() + startSeconds * 1000
  for (;;) {
    const port = await freePort()
    const args = ['-scheme', 'http', '-host', '127.0.0.1', '-port', String(port), '-backend', 'memory']
    const child = spawn(program, [...args, '-public-host', `127.0.0.1:${port}`, '-log-level', 'error'], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { PATH: process.env.PATH ?? '' },
    })
    let said = ''
    child.stderr.on('data', (data: Buffer) => {
      said = (said + data.toString()).slice(-2000)
    })
    const failed = new Promise<void>(resolve => child.once('exit', () => resolve()))
    while (child.exitCode === null && child.signalCode === null) {
      if ((await healthy(port)) && child.exitCode === null) return { child, port }
      if (Date.now() > deadline) {
        child.kill('SIGKILL')
        break
      }
      await Promise.race([failed, sleep(50)])
    }
    await failed
    if (Date.now() > deadline)
      throw new Error(`fake-gcs-server did not start within ${startSeconds} s: ${said}`)
    await sleep(100)
  }
}

async function healthy(port: number): Promise<boolean> {
  try {
    const answer = await fetch(`http://127.0.0.1:${port}/_internal/healthcheck`, {
      signal: AbortSignal.timeout(2000),
    })
    return answer.ok
  } catch {
    return false
  }
}

/** Path of the program; builds it with Go if this machine has not got it yet. */
async function fakeGcsServer(): Promise<string> {
  const home = join(toolsDirectory, `fake-gcs-server-${version}`)
  const program = join(home, 'fake-gcs-server')
  if (await isThere(program)) return program
  await mkdir(toolsDirectory, { recursive: true })
  await locked(`${home}.lock`, async () => {
    if (await isThere(program)) return
    process.stderr.write(`go: building fake-gcs-server ${version}, once per machine, about two minutes\n`)
    const scratch = await mkdtemp(join(toolsDirectory, 'building-gcs-'))
    try {
      await promisify(execFile)('go', ['install', `github.com/fsouza/fake-gcs-server@v${version}`], {
        env: { ...process.env, GOBIN: scratch },
        timeout: 15 * 60_000,
        maxBuffer: 64 * 1024 * 1024,
      })
      await rename(scratch, home)
    } finally {
      await rm(scratch, { recursive: true, force: true })
    }
  })
  return program
}
