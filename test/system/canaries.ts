/** Where a secret shows that does not belong there: files, command lines and environments of processes, histories in Temporal. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { Client, Connection } from '@temporalio/client'
import type { Stack } from './stack.ts'

/** Every file below a directory that holds one of the secrets. */
export function filesShowing(canaries: readonly string[], directory: string): string[] {
  const found: string[] = []
  for (const name of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
    const path = join(directory, name)
    try {
      if (!statSync(path).isFile()) continue
      const content = readFileSync(path)
      if (canaries.some(secret => content.includes(secret))) found.push(path)
    } catch {
      // Removed while we looked.
    }
  }
  return found
}

/** Processes whose command line or environment shows a secret, by program name; `own` are servers of the test. */
export async function processesShowing(
  canaries: readonly string[],
  own: readonly number[],
): Promise<{ commandLines: string[]; environments: string[] }> {
  const commandLines: string[] = []
  const environments: string[] = []
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid) || [process.pid, ...own].includes(Number(pid))) continue
    try {
      const program = readFileSync(`/proc/${pid}/comm`, 'utf8').trim()
      // The stores and the session that holds a lock are the test's own and no part of Holdfast.
      const [, parent] = readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /s, '')
        .split(' ')
      if (Number(parent) === process.pid && ['psql', 'versitygw'].includes(program)) continue
      if (canaries.some(secret => readFileSync(`/proc/${pid}/cmdline`).includes(secret)))
        commandLines.push(program)
      if (canaries.some(secret => readFileSync(`/proc/${pid}/environ`).includes(secret))) {
        environments.push(`${program} ${await readlink(`/proc/${pid}/cwd`)}`)
      }
    } catch {
      // It ended while we looked.
    }
  }
  return { commandLines, environments }
}

export async function expectNoHistoryShows(canaries: readonly string[], stack: Stack): Promise<void> {
  const connection = await Connection.connect({ address: stack.temporal.address })
  try {
    const client = new Client({ connection })
    for await (const info of client.workflow.list()) {
      const history = await client.workflow.getHandle(info.workflowId, info.runId).fetchHistory()
      // Payloads are bytes inside: look at the decoded data, too.
      const decoded = JSON.stringify(history, (_key, value: unknown) =>
        value instanceof Uint8Array ? Buffer.from(value).toString('utf8') : value,
      )
      for (const secret of canaries) assert.ok(!decoded.includes(secret), `history of ${info.workflowId}`)
    }
  } finally {
    await connection.close()
  }
}
