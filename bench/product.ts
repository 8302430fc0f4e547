/** Our side: a whole Holdfast as processes, spoken to by its HTTP API like anybody's. */
import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { BackupView, OperationView } from '../model/schemas.ts'
import type { Process, Stack } from '../test/system/stack.ts'

export interface Product {
  stack: Stack
  /** API, Temporal and the worker: with everything they start, this is our process tree. */
  roots(): number[]
  worker(): number
  /** Ends the worker and starts another one; returns when it works. */
  freshWorker(): Promise<void>
  /** Backs up and waits for the end of the whole operation; returns the backup's id. */
  backup(request: {
    connection: string
    destination: string
    format?: string
    jobs?: number
  }): Promise<string>
  /** Restores into a new database of the connection and waits for the end of the whole operation. */
  restore(request: { backup: string; connection: string; database: string }): Promise<void>
  /** Seconds from the call until the manifest is in the local destination, which is the commit. */
  secondsToCommit(connection: string): Promise<number>
  bytesOf(backup: string): Promise<{ storedBytes: number; toolBytes: number }>
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
  const begin = async (ask: () => Promise<OperationView>): Promise<OperationView> => {
    for (let tries = 1; ; tries++) {
      try {
        return await ask()
      } catch (error) {
        if (tries === 100 || !String(error).includes('operation.conflict')) throw error
        await sleep(10)
      }
    }
  }
  /** Milliseconds that the fastest one like it took. */
  const took = new Map<string, number>()
  /** Waits for the end. Asking costs the API time that the tools could use: it begins when the end is near. */
  const end = async (operation: OperationView): Promise<string> => {
    const begun = Date.now()
    const like = `${operation.kind} ${operation.connection} ${operation.destination}`
    await sleep((took.get(like) ?? 0) * 0.7)
    for (;;) {
      // The list, because one operation alone would be answered with live progress, which asks Temporal.
      const { items } = await stack.expectOk<{ items: OperationView[] }>('GET', '/v1/operations?limit=5')
      const now = items.find(one => one.id === operation.id)
      if (now?.state === 'succeeded') {
        took.set(like, Math.min(took.get(like) ?? Number.POSITIVE_INFINITY, Date.now() - begun))
        return now.backup
      }
      if (now?.endedAt) throw new Error(`${operation.kind} ${now.state}: ${JSON.stringify(now.error)}`)
      if (worker.child.exitCode !== null) throw new Error(`the worker ended; its log: ${worker.log}`)
      await sleep(20)
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
    async backup({ destination, ...request }) {
      return await end(await begin(() => stack.backup({ ...request, destinations: [destination] })))
    },
    async restore({ backup, connection, database }) {
      await end(await begin(() => stack.restore({ backup, target: { connection, database } })))
    },
    async secondsToCommit(connection) {
      const begun = process.hrtime.bigint()
      const operation = await begin(() => stack.backup({ connection, destinations: [localDestination] }))
      const manifest = join(backups, connection, 'backups', operation.backup, 'manifest.json')
      for (let polls = 0; !existsSync(manifest); polls++) {
        await sleep(2)
        if (polls % 500 === 499) {
          const { state, error } = await stack.operation(operation.id)
          if (state === 'failed') throw new Error(`backup failed: ${JSON.stringify(error)}`)
        }
      }
      const seconds = Number(process.hrtime.bigint() - begun) / 1e9
      await end(operation)
      return seconds
    },
    bytesOf: backup => stack.expectOk<BackupView>('GET', `/v1/backups/${backup}`),
  }
  // A worker that has never worked compiles its code on the first operation.
  await product.backup({ connection: smallConnection, destination: localDestination })
  return product
}
