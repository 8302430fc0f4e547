/** A worker of a host's own on this machine, with a home and staging of its own. For what needs no machine of its own. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { HostView } from '../../model/views.ts'
import { directory, eventually, type Process, type Stack } from './stack.ts'

/** Adds the host; returns how its worker is begun. */
export async function addWorkerHost(
  stack: Stack,
  name: string,
): Promise<{ home: string; begin(): Process; polling(): Promise<true> }> {
  const home = await directory(stack, `worker-of-${name}`)
  await stack.expectOk('POST', '/v1/hosts', { name, url: 'worker:' })
  const { token } = await stack.expectOk<{ token: string }>('POST', `/v1/hosts/${name}/token`, {})
  const file = join(home, 'token')
  await writeFile(file, token, { mode: 0o600 })
  const env = {
    HOLDFAST_HOME: home,
    HOLDFAST_TEMP_DIR: join(home, 'staging'),
    HOLDFAST_WORKER_TOKEN_FILE: file,
  }
  return {
    home,
    begin: () => stack.startWorker(env, ['--host', name]),
    polling: () =>
      eventually(`the worker of ${name} asks for steps`, async () => {
        const { worker } = await stack.expectOk<HostView>('GET', `/v1/hosts/${name}`)
        return (worker?.polling ?? 0) > 0 ? true : undefined
      }),
  }
}
