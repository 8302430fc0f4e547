/** Other people's sessions and processes: what a test needs to get in a tool's way. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import type { TestPostgres } from '../servers/postgres.ts'
import { eventually } from './stack.ts'

/** Pids of programs named `program` that work in the operation's staging directory. */
export function pidsIn(operation: string, program: string): number[] {
  const found: number[] = []
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    try {
      const name = readFileSync(`/proc/${pid}/comm`, 'utf8').trim()
      if (name === program && readlinkSync(`/proc/${pid}/cwd`).includes(operation)) found.push(Number(pid))
    } catch {
      // It ended while we looked.
    }
  }
  return found
}

/** Another session holds the table, so that pg_dump waits for it. */
export async function lockTable(url: string, table: string): Promise<{ release(): Promise<void> }> {
  const session = openSession(url)
  await session.say(`BEGIN; LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE; SELECT 'locked';`, 'locked')
  return { release: () => session.close() }
}

/** Waits until the operation's pg_dump stands before a lock: not one that is only asked for its version. */
export function dumpWaits(postgres: TestPostgres, operation: string): Promise<number> {
  const waiting = `SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'holdfast' AND wait_event_type = 'Lock' AND query LIKE 'LOCK TABLE%'`
  return eventually('pg_dump waits for the lock', async () =>
    (await postgres.sql(waiting)) === '0' ? undefined : pidsIn(operation, 'pg_dump')[0],
  )
}

/** A psql session that stays open. */
function openSession(url: string) {
  const child = spawn('psql', ['-X', '-q', '-A', '-t', url], { stdio: ['pipe', 'pipe', 'inherit'] })
  let heard = ''
  const ended = once(child, 'exit')
  child.stdout.setEncoding('utf8')
  child.stdout.on('data', (text: string) => {
    heard += text
  })
  return {
    /** Sends SQL and waits until `answer` was printed. */
    async say(sql: string, answer: string): Promise<void> {
      heard = ''
      child.stdin.write(`${sql}\n`)
      while (!heard.includes(answer)) {
        await Promise.race([once(child.stdout, 'data'), ended])
        if (child.exitCode !== null) throw new Error(`psql ended (exit ${child.exitCode}) before: ${sql}`)
      }
    },
    async close(): Promise<void> {
      child.stdin.end()
      await ended
    },
  }
}
