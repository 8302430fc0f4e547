/** Our side: a whole Holdfast as processes, spoken to by its HTTP API like anybody's. */
import { existsSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { BackupView, OperationView } from '../model/views.ts'
import type { Process, Stack } from '../test/system/stack.ts'

export interface Product {
  stack: Stack
  /** API, Temporal and the worker: with everything they start, this is our process tree. */
  roots(): number[]
  worker(): number
  /** Ends the worker and starts another one; returns when it works. */
  freshWorker(): Promise<void>
  /** Backs up and waits for the end of the whole operation. */
  backup(request: {
    connection: string
    destination: string
    format?: string
    jobs?: number
    type?: 'full' | 'incremental'
  }): Promise<Done>
  /** Restores into a new database of the connection and waits for the end of the whole operation. */
  restore(request: { backup: string; connection: string; database: string }): Promise<Done>
  /** Seconds from the call until the manifest is in the local destination, which is the commit. */
  secondsToCommit(connection: string): Promise<number>
  /** Removes what earlier backups of the connection left in the local destination, so that its place is free again. */
  clear(connection: string): Promise<void>
  bytesOf(backup: string): Promise<{ storedBytes: number; toolBytes: number }>
}

export interface Done {
  /** Its id. */
  backup: string
  /** From the call of the API to the end that the operation's row records. */
  seconds: number
}

/** Names of what every product of the bench has. */
export const localDestination = 'local'
export const smallConnection = 'small'

/** `stack` is started without a worker, and stays the caller's to stop. */
export async function startProduct(stack: Stack, small: string): Promise<Product> {
  const backups = join(stack.directory, 'backups')
  await mkdir(backups)
  await stack.expectOk('POST', '/v1/keys', { name: 'bench' })
  await stack.expectOk('POST', '/v1/destinations', { name: localDestination, uri: backups })
  await stack.expectOk('POST', '/v1/connections', { name: smallConnection, url: small })
  // The system tests' workers reach the API through a proxy that can stop them; here it would only cost time.
  const start = () => stack.startWorker({ HOLDFAST_URL: stack.apiUrl })
  let worker: Process = start()

  /** The lock is let go of a moment after the operation's row is closed: the one before may still hold it. */
  const begin = async (ask: () => Promise<OperationView>) => {
    for (let tries = 1; ; tries++) {
      const begun = Date.now()
      try {
        return { begun, ...(await ask()) }
      } catch (error) {
        if (tries === 100 || !String(error).includes('operation.conflict')) throw error
        await sleep(10)
      }
    }
  }
  /**
   * Waits for the end. What counts is the time in the operation's own row: to look for it more often would take
   * processor time from what is measured.
   */
  const ended = async (ask: () => Promise<OperationView>): Promise<Done> => {
    const { id, begun } = await begin(ask)
    for (;;) {
      await sleep(100)
      // The list, because one operation alone would be answered with live progress, which asks Temporal.
      const { items } = await stack.expectOk<{ items: OperationView[] }>('GET', '/v1/operations?limit=5')
      const now = items.find(one => one.id === id)
      if (worker.child.exitCode !== null) throw new Error(`the worker ended; its log: ${worker.log}`)
      if (!now?.endedAt) continue
      if (now.state !== 'succeeded') throw new Error(`${now.kind} ${now.state}: ${JSON.stringify(now.error)}`)
      return { backup: now.backup, seconds: (Date.parse(now.endedAt) - begun) / 1000 }
    }
  }
  const product: Product = {
    stack,
    roots: () => [stack.api, worker].map(made => made.child.pid ?? 0).concat(stack.temporal.pid),
    worker: () => worker.child.pid ?? 0,
    async freshWorker() {
      await worker.terminate()
      worker = start()
      await product.backup({ connection: smallConnection, destination: localDestination })
    },
    backup: ({ destination, ...request }) =>
      ended(() => stack.backup({ ...request, destinations: [destination] })),
    restore: ({ backup, connection, database }) =>
      ended(() => stack.restore({ backup, target: { connection, database } })),
    async secondsToCommit(connection) {
      let begun = 0n
      let committed = 0n
      await ended(async () => {
        begun = process.hrtime.bigint()
        const operation = await stack.backup({ connection, destinations: [localDestination] })
        const manifest = join(backups, connection, 'backups', operation.backup, 'manifest.json')
        const deadline = Date.now() + 60_000
        while (!existsSync(manifest) && Date.now() < deadline) await sleep(2)
        committed = process.hrtime.bigint()
        return operation
      })
      return Number(committed - begun) / 1e9
    },
    clear: connection => rm(join(backups, connection, 'backups'), { recursive: true, force: true }),
    bytesOf: backup => stack.expectOk<BackupView>('GET', `/v1/backups/${backup}`),
  }
  // A worker that has never worked compiles its code on the first operation.
  await product.backup({ connection: smallConnection, destination: localDestination })
  return product
}
