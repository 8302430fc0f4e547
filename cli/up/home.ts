/** The home directory: made private, and used by one `up` at a time. */
import { chmod, mkdir, open, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { HoldfastError } from '../../model/errors.ts'
import { homePaths, type Settings } from '../../model/settings.ts'
import { type Runtime, readLastRuntime, readRuntime } from '../context.ts'
import { processLives } from './processes.ts'

/** Makes the home (0700) if it is not there, with staging, keys, logs and the default place of backups. */
export async function prepareHome(settings: Settings): Promise<void> {
  const { home } = settings
  const made = await mkdir(home, { recursive: true, mode: 0o700 })
  if (made === undefined) {
    const mode = (await stat(home)).mode & 0o777
    if ((mode & 0o077) !== 0) await chmod(home, 0o700)
  } else await chmod(home, 0o700)
  const { keys, backups } = homePaths(home)
  for (const folder of [keys, backups, settings.tempDir, join(home, 'logs')]) {
    await mkdir(folder, { recursive: true, mode: 0o700 })
  }
}

/**
 * One `up` per home. The lock is the operating system's (through SQLite's file lock): it goes with the process, however
 * that ends, so a lock can never be stale. Throws `request.in-use` naming the holder.
 */
export function lockHome(home: string): { release(): void } {
  const lock = new DatabaseSync(join(home, 'up.lock'))
  try {
    lock.exec('PRAGMA busy_timeout = 0; BEGIN EXCLUSIVE')
  } catch (error) {
    lock.close()
    if (!(error instanceof Error && /locked|busy/i.test(error.message))) throw error
    const runtime = readRuntime(home)
    const where = runtime === undefined ? '' : ` (process ${runtime.pid}, API at ${runtime.api})`
    throw new HoldfastError('request.in-use', `holdfast up runs already for ${home}${where}.`, {
      hint: 'Use it, end it with Ctrl-C, or choose another HOLDFAST_HOME.',
    })
  }
  return { release: () => lock.close() }
}

/**
 * Children of an `up` that was killed end by themselves within seconds. Two Temporal servers on one database file or two
 * owners of one catalog would be worse than waiting for them.
 */
export async function waitForFormerChildren(home: string, say: (line: string) => void): Promise<void> {
  const former = readLastRuntime(home)
  if (former === undefined) return
  const deadline = Date.now() + 60_000
  for (let told = false; ; told = true) {
    const living = former.children.filter(processLives)
    if (living.length === 0) return
    if (!told)
      say(`waiting for the ${living.map(child => child.name).join(' and ')} of the run before to end`)
    if (Date.now() > deadline) {
      const names = living.map(child => `${child.name} (process ${child.pid})`).join(', ')
      throw new HoldfastError('request.in-use', `Of the run before there still live: ${names}.`, {
        hint: 'End them, then start again.',
      })
    }
    await new Promise(resolve => setTimeout(resolve, 200))
  }
}

export async function writeRuntime(home: string, runtime: Runtime): Promise<void> {
  const path = homePaths(home).runtime
  const draft = `${path}.new`
  const file = await open(draft, 'w', 0o600)
  try {
    await file.writeFile(`${JSON.stringify(runtime, null, 2)}\n`)
  } finally {
    await file.close()
  }
  await rename(draft, path)
}
