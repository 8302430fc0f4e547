/** Runs the real `bin/holdfast` as people do. */
import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'

const root = join(import.meta.dirname, '../..')
export const launcher = join(root, 'bin/holdfast')

export interface Ended {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

export interface RunOptions {
  env?: Record<string, string | undefined>
  cwd?: string
  input?: string
  program?: string
}

/** Nothing of the caller's Holdfast or profiles gets in; colours only if the test asks for them. */
const cleanEnvironment = (extra: Record<string, string | undefined> = {}) => ({
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('HOLDFAST_'))),
  FORCE_COLOR: undefined,
  NO_COLOR: undefined,
  NODE_TEST_CONTEXT: undefined,
  XDG_CONFIG_HOME: '/nowhere',
  ...extra,
})

export function start(
  args: readonly string[],
  options: RunOptions = {},
): { child: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(options.program ?? launcher, args, {
    cwd: options.cwd ?? root,
    env: cleanEnvironment(options.env),
    stdio: 'pipe',
  })
  const texts = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      texts[name] += text
    })
  }
  child.stdin.on('error', () => {})
  child.stdin.end(options.input ?? '')
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve({ code, signal, ...texts }))
  })
  return { child, ended }
}

export const holdfast = (args: readonly string[], options: RunOptions = {}): Promise<Ended> =>
  start(args, options).ended

/** Asks until the answer is not undefined. */
export async function eventually<T>(
  what: string,
  ask: () => Promise<T | undefined> | T | undefined,
  seconds = 60,
): Promise<T> {
  const until = Date.now() + seconds * 1000
  for (;;) {
    const answer = await ask()
    if (answer !== undefined) return answer
    if (Date.now() > until) throw new Error(`${what}: not within ${seconds} s`)
    await new Promise(resolve => setTimeout(resolve, 100))
  }
}
