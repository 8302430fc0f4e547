/** An API and a worker in this process, on a real Temporal: for what needs steps to run and nobody to be killed. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { DefaultLogger, makeTelemetryFilterString, Runtime } from '@temporalio/worker'
import { startWorker } from '../../activities/worker.ts'
import { isClosed } from '../../catalog/operations.ts'
import type { OperationView, Problem } from '../../model/views.ts'
import { startTemporal, type TestTemporal } from '../servers/temporal.ts'
import { eventually, startTestApi, type TestApi } from './support.ts'

// What fails is said by the operation.
Runtime.install({
  logger: new DefaultLogger('ERROR'),
  telemetryOptions: { logging: { filter: makeTelemetryFilterString({ core: 'ERROR', other: 'ERROR' }) } },
})

export interface WorkedApi {
  api: TestApi
  temporal: TestTemporal
  /** For whatever a test wants to keep. */
  directory: string
  home: string
  call: TestApi['call']
  expectOk<T>(method: string, path: string, body?: unknown): Promise<T>
  operation(id: string): Promise<OperationView>
  ended(id: string): Promise<OperationView>
  backup(body: Record<string, unknown>): Promise<OperationView>
  restore(body: Record<string, unknown>): Promise<OperationView>
  refused(method: string, path: string, body?: unknown): Promise<Problem>
  stop(): Promise<void>
}

export async function startWorkedApi(env: Record<string, string> = {}): Promise<WorkedApi> {
  const temporal = await startTemporal()
  const api = await startTestApi({ temporal: temporal.address, env })
  const worker = await startWorker({
    settings: { ...api.settings, url: api.api.url },
    workerToken: api.workerToken,
  })
  const running = worker.run()
  const directory = join(api.home, 'work')
  await mkdir(directory)
  const expectOk = async <T>(method: string, path: string, body?: unknown): Promise<T> => {
    const answer = await api.call<T>(method, path, body)
    if (answer.status < 300) return answer.body
    throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`)
  }
  await expectOk('POST', '/v1/keys', { name: 'default' })
  const operation = (id: string) => expectOk<OperationView>('GET', `/v1/operations/${id}`)
  const begin = async (path: string, body: unknown) =>
    (await expectOk<{ operation: OperationView }>('POST', path, body)).operation
  return {
    api,
    temporal,
    directory,
    home: api.home,
    call: api.call,
    expectOk,
    operation,
    ended: id =>
      eventually(`operation ${id} ends`, async () => {
        const view = await operation(id)
        return isClosed(view.state) ? view : undefined
      }),
    backup: body => begin('/v1/backups', body),
    restore: body => begin('/v1/restores', body),
    refused: api.refused,
    async stop() {
      worker.shutdown()
      await running
      await api.stop()
      await temporal.stop()
    },
  }
}
