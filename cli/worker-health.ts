/**
 * Whether the worker of this machine is at work: it asks Temporal for steps, and the API takes its token. Asked from beside
 * it (a container's health check), by its staging directory, which names the machine's task queue.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isPolling, pollersOf, temporalConnection } from '../api/temporal.ts'
import { catalogClient } from '../catalog/client.ts'
import { HoldfastError } from '../model/errors.ts'
import { machineQueue } from '../model/ids.ts'
import type { Settings } from '../model/settings.ts'

export interface WorkerHealth {
  healthy: boolean
  checks: { name: 'machine' | 'temporal' | 'api'; ok: boolean; detail: string }[]
}

const answerMs = 5000

export async function workerHealth(settings: Settings, workerToken: string): Promise<WorkerHealth> {
  const machine = (await readFile(join(settings.tempDir, 'machine.id'), 'utf8').catch(() => '')).trim()
  const found =
    machine === ''
      ? { name: 'machine' as const, ok: false, detail: `No worker was started with ${settings.tempDir} yet.` }
      : { name: 'machine' as const, ok: true, detail: machine }
  const checks = [found, await askTemporal(settings, machine), await askApi(settings, workerToken)]
  return { healthy: checks.every(({ ok }) => ok), checks }
}

async function askTemporal(settings: Settings, machine: string) {
  const name = 'temporal' as const
  const connection = await temporalConnection(settings)
  try {
    const pollers = await connection.withDeadline(Date.now() + answerMs, () =>
      pollersOf(connection, settings.temporal.namespace, machineQueue(machine)),
    )
    const polling = pollers.filter(isPolling).map(({ identity }) => identity)
    return polling.length > 0
      ? { name, ok: true, detail: `${polling.join(', ')} asks for work` }
      : { name, ok: false, detail: 'No worker of this machine asks for work.' }
  } catch (error) {
    return { name, ok: false, detail: `It does not answer: ${wordsOf(error)}` }
  } finally {
    await connection.close()
  }
}

async function askApi({ url }: Settings, token: string) {
  const name = 'api' as const
  try {
    await catalogClient({ url, token, signal: AbortSignal.timeout(answerMs) }).writer()
    return { name, ok: true, detail: `${url} takes the worker's token` }
  } catch (error) {
    const late = error instanceof Error && error.name === 'TimeoutError'
    return { name, ok: false, detail: late ? `${url} does not answer.` : wordsOf(error) }
  }
}

const wordsOf = (error: unknown): string =>
  error instanceof HoldfastError ? `${error.code}: ${error.message}` : String(error)
