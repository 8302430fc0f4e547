/** The story of one operation while it happens, as server-sent events. */
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import { isClosed } from '../../catalog/operations.ts'
import type { Actor } from '../../model/records.ts'
import { stillHere } from '../actor.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { requires } from '../roles.ts'
import { noQuery, operationParam, problems } from './answers.ts'

/** So often something is sent, so that nobody in between takes the silence for an end. */
const heartbeatMs = 15_000

const events = createRoute({
  method: 'get',
  path: '/v1/operations/{id}/events',
  tags: ['operations'],
  ...requires('viewer', 'operation'),
  summary: 'Its state now and whenever it changes, until it is closed',
  description:
    'Server-sent events named `operation`; the data is the operation. Send the id of the last one seen as `Last-Event-ID` to go on: a state that was seen is not sent again, and 204 says that there is nothing more to come.',
  request: {
    params: operationParam,
    query: noQuery,
    headers: z.object({ 'last-event-id': z.string().max(100).optional() }),
  },
  responses: {
    200: { content: { 'text/event-stream': { schema: z.string() } }, description: 'Events' },
    204: { description: 'It is closed, and that was seen' },
    ...problems,
  },
})

export function eventRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  app.openapi(events, async c => {
    const { id } = c.req.valid('param')
    const seen = c.req.valid('header')['last-event-id']
    // Also says that there is no such operation, before a stream begins.
    const now = await context.events.now(id)
    if (now.id === seen && isClosed(now.view.state)) return c.body(null, 204)
    const leave = context.events.enter(c.get('actor').credentialId)
    const stream = streamOf(context, c.get('actor'), id, seen, leave)
    return c.body(stream, 200, {
      'content-type': 'text/event-stream',
      'x-accel-buffering': 'no',
      // When we end, the connection must not stay behind, idle.
      connection: 'close',
    })
  })
}

/** Nothing is looked at before the client has taken what was sent before. */
function streamOf(
  context: ApiContext,
  actor: Actor,
  id: string,
  from: string | undefined,
  leave: () => void,
): ReadableStream<Uint8Array> {
  const { events: hub, log } = context
  const left = new AbortController()
  let seen = from
  const end = (controller: ReadableStreamDefaultController<Uint8Array>) => {
    leave()
    controller.close()
  }
  const bytes = (text: string) => new TextEncoder().encode(text)
  return new ReadableStream<Uint8Array>({
    start(controller) {
      // A client that was cut off comes back after this time.
      controller.enqueue(bytes('retry: 2000\n\n'))
    },
    async pull(controller) {
      try {
        const snapshot = await hub.next(id, seen, heartbeatMs, left.signal)
        if (left.signal.aborted) return
        if (hub.stopping.aborted || !(await stillHere(context, actor))) return end(controller)
        if (snapshot === undefined) return controller.enqueue(bytes(': still here\n\n'))
        seen = snapshot.id
        const data = JSON.stringify(snapshot.view)
        controller.enqueue(bytes(`event: operation\nid: ${snapshot.id}\ndata: ${data}\n\n`))
        if (isClosed(snapshot.view.state)) end(controller)
      } catch (error) {
        log.warn('a stream of events ended early', {
          operation: id,
          reason: error instanceof Error ? error.message : String(error),
        })
        if (!left.signal.aborted) end(controller)
      }
    },
    cancel() {
      left.abort()
      leave()
    },
  })
}
