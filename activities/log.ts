/** The operation's log: what hooks and tools printed, without the connection's secrets. */
import { resolveSecrets } from '../catalog/secret-references.ts'
import { HoldfastError } from '../model/errors.ts'
import type { WorkerContext } from './context.ts'

/** `id` names the entry, so that a step that runs again does not tell twice; absent: each telling is another one. */
export type Tell = (source: string, text: string, id?: string) => Promise<void>

export function logOf(
  context: WorkerContext,
  operationId: string,
  secrets: Readonly<Record<string, string>>,
): Tell {
  const values = Object.values(secrets)
    .filter(value => value.length >= 3)
    .flatMap(value => [value, encodeURIComponent(value)])
    .sort((a, b) => b.length - a.length)
  return async (source, text, id = crypto.randomUUID()) => {
    if (text.trim() === '') return
    await context.catalog.appendLog(operationId, {
      id,
      at: new Date().toISOString(),
      source: source.slice(0, 200),
      text: values.reduce((rest, value) => rest.replaceAll(value, '•••'), text).slice(-131_072),
    })
  }
}

/** What a tool said. Its log does no harm to its work: where it cannot be kept, it is not. */
export async function logTool(
  context: WorkerContext,
  operationId: string,
  title: string,
  text: string,
): Promise<void> {
  if (text.trim() === '') return
  try {
    const plan = await context.catalog.plan(operationId)
    const { request, target } = (plan?.plan ?? {}) as {
      request?: { connection: string }
      target?: { connection: string }
    }
    const connection = request?.connection ?? target?.connection
    if (connection === undefined) return
    const secrets = await resolveSecrets(await context.catalog.connectionSecrets(connection))
    await logOf(context, operationId, secrets)(title, text)
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error
  }
}
