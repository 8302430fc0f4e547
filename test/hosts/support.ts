/** What the tests of hosts share: shells that carry jobs, processes seen from outside, workers to be killed. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { access, mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Command, Stage } from '../../engines/engine.ts'
import type { Host } from '../../hosts/host.ts'
import { openLocalHost } from '../../hosts/index.ts'
import { type Scratch, scratch as temporary } from '../support/temporary.ts'

export type Shell = readonly [string, ...string[]]

const execute = promisify(execFile)
const there = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  )

/** The shells that servers have as /bin/sh. */
export async function shells(): Promise<Shell[]> {
  return [['dash'], ['bash', '--posix'], [await busybox(), 'sh']]
}

/** From PATH, else the distribution's package, unpacked into the user's cache. */
async function busybox(): Promise<string> {
  for (const directory of (process.env.PATH ?? '').split(delimiter)) {
    if (directory !== '' && (await there(join(directory, 'busybox')))) return join(directory, 'busybox')
  }
  const tools = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'holdfast', 'tools')
  const cached = join(tools, 'busybox')
  const program = join(cached, 'bin', 'busybox')
  if (await there(program)) return program
  const scratch = await mkdtemp(join(tmpdir(), 'holdfast-busybox-'))
  try {
    await execute('apt-get', ['download', 'busybox'], { cwd: scratch })
    const [file] = (await readdir(scratch)).filter(name => name.endsWith('.deb'))
    await mkdir(tools, { recursive: true })
    const unpacked = await mkdtemp(join(tools, '.busybox-'))
    await execute('dpkg-deb', ['-x', join(scratch, file ?? ''), unpacked])
    // Somebody else may have been faster; then theirs is as good.
    await rename(unpacked, cached).catch(() => rm(unpacked, { recursive: true, force: true }))
  } catch (cause) {
    throw new Error('These tests need busybox: install it (apt-get install busybox).', { cause })
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
  return program
}

const opened = new Set<Host>()

export async function open(stagingRoot: string, shell: Shell = ['sh']): Promise<Host> {
  const host = await openLocalHost({ name: 'local', stagingRoot, shell })
  opened.add(host)
  return host
}

/** A scratch directory; jobs that a failed test left in it end with it. */
export async function scratch(): Promise<Scratch> {
  const place = await temporary()
  return {
    path: place.path,
    smallDisk: place.smallDisk,
    async [Symbol.asyncDispose]() {
      for (const host of opened) {
        if (!`${host.stagingRoot}/`.startsWith(`${place.path}/`)) continue
        for (const operation of await host.operations()) await host.stopOperation(operation)
        opened.delete(host)
      }
      await place[Symbol.asyncDispose]()
    },
  }
}

/** A command of shell one-liners joined by pipes. */
export function lines(first: string, ...others: string[]): Command {
  const stage = (text: string): Stage => ({ argv: ['sh', '-c', text] })
  return { stages: [stage(first), ...others.map(stage)] }
}

/** Asks until the answer is not undefined. */
export async function eventually<T>(what: string, ask: () => Promise<T | undefined>): Promise<T> {
  const deadline = Date.now() + 60_000
  for (;;) {
    const answer = await ask()
    if (answer !== undefined) return answer
    if (Date.now() > deadline) throw new Error(`waited in vain: ${what}`)
    await sleep(30)
  }
}

export interface Seen {
  pid: number
  state: string
  group: number
  started: string
}

/** All processes, zombies left out. */
export async function processes(): Promise<Seen[]> {
  const seen: Seen[] = []
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const text = await readFile(`/proc/${name}/stat`, 'latin1').catch(() => '')
    const fields = text.slice(text.lastIndexOf(') ') + 2).split(' ')
    const state = fields[0] ?? ''
    if (text !== '' && !/^[ZX]/.test(state)) {
      seen.push({ pid: Number(name), state, group: Number(fields[2]), started: fields[19] ?? '' })
    }
  }
  return seen
}

export const group = async (id: number): Promise<Seen[]> =>
  (await processes()).filter(one => one.group === id)
export const groupGone = (id: number) =>
  eventually(`the end of group ${id}`, async () => ((await group(id)).length === 0 ? true : undefined))

/** The identity of the newest run of a job: pid, start time, boot id, directory of the run. */
export async function identity(host: Host, job: string): Promise<[number, string, string, string]> {
  const directory = join(host.stagingRoot, 'jobs', job)
  return eventually(`the identity of ${job}`, async () => {
    const names = (await readdir(directory).catch(() => [])).filter(name => name.startsWith('elected-'))
    if (names.length === 0) return undefined
    const newest = Math.max(...names.map(name => Number(name.slice(8))))
    const [pid, started, boot, run] = (await readFile(join(directory, `elected-${newest}`), 'utf8'))
      .trim()
      .split(' ')
    return [Number(pid), started ?? '', boot ?? '', run ?? '']
  })
}

export interface Worker {
  child: ChildProcess
  said: Promise<string>
  kill(): Promise<void>
}

/**
 * A worker of its own: runs `body`, after what opens `host`, in another Node process. `said` resolves with the first line
 * it prints; stays alive until killed.
 */
export function worker(opening: string, body: string, env: Record<string, string> = {}): Worker {
  const code = `
    ${opening}
    const sh = text => ({ argv: ['sh', '-c', text] })
    setInterval(() => {}, 1000)
    ${body}`
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  })
  const said = new Promise<string>((resolve, reject) => {
    child.stdout!.once('data', text => resolve(String(text).trim()))
    child.once('exit', () => reject(new Error('the worker ended without a word')))
  })
  said.catch(() => {})
  const gone = new Promise<void>(resolve => child.once('exit', () => resolve()))
  return {
    child,
    said,
    async kill() {
      child.kill('SIGKILL')
      await gone
    },
  }
}
