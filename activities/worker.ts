/** The worker process: polls Temporal, carries out steps. Holds no catalog and no key; may be killed at any moment. */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { NativeConnection, Worker, type WorkflowBundle } from '@temporalio/worker'
import { taskQueue } from '../model/ids.ts'
import type { Settings } from '../model/settings.ts'
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
  /** A bundle made before (faster start); made anew when absent. */
  workflowBundle?: WorkflowBundle
}): Promise<RunningWorker> {
  const { settings } = options
  const { address, namespace, tls, apiKey } = settings.temporal
  const [steps, connection, workflowBundle] = await Promise.all([
    openStepsThread({
      url: settings.url,
      workerToken: options.workerToken,
      tempDir: settings.tempDir,
      notifyCommand: settings.notifyCommand,
    }),
    NativeConnection.connect({
      address: address ?? '127.0.0.1:7233',
      ...(apiKey ? { apiKey } : {}),
      ...(tls ? { tls: await tlsOptions(tls) } : apiKey ? { tls: true } : {}),
    }),
    options.workflowBundle ?? bundleWorkflows(),
  ])
  const worker = await Worker.create({
    connection,
    namespace,
    taskQueue,
    workflowBundle,
    activities: steps.activities,
    maxConcurrentActivityTaskExecutions: 32,
    // A killed worker's progress must be fresh, and a cancellation must arrive within a second.
    maxHeartbeatThrottleInterval: '1s',
    defaultHeartbeatThrottleInterval: '1s',
    // After a kill the next worker gets the workflow within seconds instead of the default ten.
    stickyQueueScheduleToStartTimeout: '3s',
    shutdownGraceTime: '5s',
    shutdownForceTime: '20s',
  })
  return {
    async run() {
      try {
        await worker.run()
      } finally {
        await steps.close()
        await connection.close()
      }
    },
    // The SDK drains by itself on the same signals, and refuses to be told twice.
    shutdown: () => {
      if (worker.getState() === 'RUNNING') worker.shutdown()
    },
  }
}

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
