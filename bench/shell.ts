/** The other side of the comparison: what an administrator would type, in a bash that waits for it. */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

export interface Shell {
  pid: number
  /** Runs a script with `pipefail`; throws with what it said when anything in it failed. */
  run(script: string): Promise<void>
  stop(): Promise<void>
}

/**
 * One bash for all scripts, so that its own start is not measured. Each script runs in a subshell that this bash waits
 * for: afterwards the time of every program is in the bash's account.
 */
export function startShell(env: Record<string, string>): Shell {
  // What the user has set for other servers does not meet ours.
  const own = Object.entries(process.env).filter(([name]) => !/^(AWS|RCLONE|PG)_?[A-Z]/.test(name))
  const child = spawn('bash', ['--noprofile', '--norc', '-s'], {
    env: { ...Object.fromEntries(own), ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const { pid } = child
  if (pid === undefined) throw new Error('bash cannot be started')
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  let said = ''
  child.stderr.on('data', (data: Buffer) => {
    said = (said + data.toString()).slice(-4000)
  })
  const gone = new Promise<void>(resolve => child.once('exit', () => resolve()))
  return {
    pid,
    async run(script) {
      said = ''
      child.stdin.write(`( set -eo pipefail\n${script}\n) </dev/null >&2; echo "$?"\n`)
      const { value, done } = await answers.next()
      if (done || value !== '0') throw new Error(`exit ${done ? 'of the shell' : value}:\n${script}\n${said}`)
    },
    async stop() {
      child.stdin.end()
      await gone
    },
  }
}

/** One word of a script. */
export const word = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`
