/** The worker process: polls Temporal, carries out steps. Holds no catalog and no key; may be killed at any moment. */
import { execFile } from 'node:child_process'
import { hostname } from 'node:os'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { NativeConnection, Worker, type WorkerOptions, type WorkflowBundle } from '@temporalio/worker'
import { catalogClient } from '../catalog/client.ts'
import { openLocalHost } from '../hosts/index.ts'
import { hostQueue, machineQueue, taskQueue, workerIdentity } from '../model/ids.ts'
import type { Machine } from '../model/records.ts'
import type { Settings } from '../model/settings.ts'
import { keepClear, machineIdOf } from './machine.ts'
import { openStepsThread } from './thread.ts'

export interface RunningWorker {
  /** Settles when the worker has stopped. */
  run(): Promise<void>
  /** Stops polling; steps under way get a few seconds, then go on elsewhere. */
  shutdown(): void
}

export async function startWorker(options: {
  settings: Settings
  workerToken: string
  /** Carry out the steps that touch this host, on which we live, and no others. */
  ownHost?: string
  /** A bundle made before (faster start); made anew when absent. */
  workflowBundle?: WorkflowBundle
}): Promise<RunningWorker> {
  const { settings, ownHost } = options
  const { address, namespace, tls, apiKey } = settings.temporal
  const server = { url: settings.url, workerToken: options.workerToken }
  // Asked first: a token that is refused must not look like a worker that waits.
  const queue = ownHost === undefined ? taskQueue : hostQueue(await ownWorkerId(server, ownHost))
  const host = await openLocalHost({ name: ownHost ?? 'local', stagingRoot: settings.tempDir })
  const machine: Machine = {
    queue: machineQueue(await machineIdOf(host)),
    waitSeconds: settings.machineWaitSeconds,
  }
  const [steps, connection, workflowBundle] = await Promise.all([
    openStepsThread({
      ...server,
      tempDir: settings.tempDir,
      machine,
      ownHost,
      notifyCommand: settings.notifyCommand,
    }),
    NativeConnection.connect({
      address: address ?? '127.0.0.1:7233',
      ...(apiKey ? { apiKey } : {}),
      ...(tls ? { tls: await tlsOptions(tls) } : apiKey ? { tls: true } : {}),
    }),
    // What happens in which order is none of its business.
    ownHost === undefined ? (options.workflowBundle ?? bundleWorkflows()) : undefined,
  ])
  const shared: WorkerOptions = {
    connection,
    namespace,
    taskQueue: queue,
    identity: workerIdentity(`${process.pid}@${hostname()}`, machine.queue),
    activities: steps.activities,
    maxConcurrentActivityTaskExecutions: 32,
    // A killed worker's progress must be fresh, and a cancellation must arrive within a second.
    maxHeartbeatThrottleInterval: '1s',
    defaultHeartbeatThrottleInterval: '1s',
    shutdownGraceTime: '5s',
    shutdownForceTime: '20s',
  }
  const workers = await Promise.all([
    // After a kill the next worker gets the workflow within seconds instead of the default ten.
    Worker.create(
      workflowBundle ? { ...shared, workflowBundle, stickyQueueScheduleToStartTimeout: '3s' } : shared,
    ),
    // What is staged here is worked on here.
    Worker.create({ ...shared, taskQueue: machine.queue }),
  ])
  // The SDK drains by itself on the same signals, and refuses to be told twice.
  const shutdown = () => {
    for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown()
  }
  return {
    async run() {
      const ended = new AbortController()
      const clearing = keepClear(host, server, ended.signal)
      try {
        // One that fails takes the other with it: half a worker would keep steps waiting.
        await Promise.all(workers.map(worker => worker.run().finally(shutdown)))
      } finally {
        ended.abort()
        await clearing
        await steps.close()
        await connection.close()
      }
    },
    shutdown,
  }
}

/** Throws `request.forbidden` when the token is not of this host. */
const ownWorkerId = (server: { url: string; workerToken: string }, host: string): Promise<string> =>
  catalogClient({ url: server.url, token: server.workerToken }).ownWorker(host)

async function tlsOptions(tls: NonNullable<Settings['temporal']['tls']>) {
  const { readFile } = await import('node:fs/promises')
  return {
    ...(tls.ca ? { serverRootCACertificate: await readFile(tls.ca) } : {}),
    ...(tls.serverName ? { serverNameOverride: tls.serverName } : {}),
    ...(tls.cert && tls.key
      ? { clientCertPair: { crt: await readFile(tls.cert), key: await readFile(tls.key) } }
      : {}),
  }
}

/** Compiles the workflows, in a process that takes its memory with it. */
export async function bundleWorkflows(): Promise<WorkflowBundle> {
  const program = fileURLToPath(new URL('./bundle.ts', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, [program], {
    env: { PATH: process.env.PATH },
    maxBuffer: 64 * 1024 * 1024,
  })
  return { code: stdout }
}
