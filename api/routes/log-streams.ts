import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import { readConnection } from '../../catalog/connections.ts'
import { listLogStreams, readLogStream } from '../../catalog/log-streams.ts'
import { logStreamEnd, logStreamInput, logStreamView } from '../../model/log-stream.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { endLogStream, expectLog, startLogStream, viewOf } from '../log-streams.ts'
import { within } from '../reach.ts'
import { requires } from '../roles.ts'
import { body, json, nameParam, problems } from './answers.ts'

const list = createRoute({
  method: 'get',
  path: '/v1/log-streams',
  tags: ['pitr'],
  ...requires('viewer', 'checked'),
  summary: 'Servers whose log is streamed, and how far each is',
  responses: { 200: json(z.object({ items: z.array(logStreamView) }), 'By connection'), ...problems },
})
const show = createRoute({
  method: 'get',
  path: '/v1/connections/{name}/log-stream',
  tags: ['pitr'],
  ...requires('viewer', 'connection'),
  summary: 'How far the streaming of a log is, as the worker of its host last said',
  request: { params: nameParam },
  responses: { 200: json(logStreamView, 'The stream'), ...problems },
})
const start = createRoute({
  method: 'post',
  path: '/v1/connections/{name}/log-stream',
  tags: ['pitr'],
  ...requires('admin', 'connection'),
  summary: 'Stream the log of a server through a slot and archive it; what is not said stays as it was',
  request: { params: nameParam, body: body(logStreamInput) },
  responses: { 200: json(logStreamView, 'It goes on whatever happens to this process'), ...problems },
})
const stop = createRoute({
  method: 'post',
  path: '/v1/connections/{name}/log-stream/stop',
  tags: ['pitr'],
  ...requires('admin', 'connection'),
  summary:
    'Stop streaming. The slot is kept, and keeps the log of the server, unless it is dropped; `leave` forgets it',
  request: { params: nameParam, body: body(logStreamEnd) },
  responses: { 202: json(logStreamView, 'Asked for; the worker of its host does it'), ...problems },
})

export function logStreamRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  const { catalog } = context
  app.openapi(list, async c => {
    const streams = await listLogStreams(catalog)
    const shown = streams.filter(({ connection }) => within(c.get('actor'), connection))
    return c.json({ items: await Promise.all(shown.map(one => viewOf(context, one))) }, 200)
  })
  app.openapi(show, async c => {
    const connection = await readConnection(catalog, c.req.valid('param').name)
    expectLog(connection)
    return c.json(await viewOf(context, await readLogStream(catalog, connection.name)), 200)
  })
  app.openapi(start, async c => {
    const connection = await readConnection(catalog, c.req.valid('param').name)
    return c.json(await startLogStream(context, connection, c.req.valid('json')), 200)
  })
  app.openapi(stop, async c => {
    const { name } = await readConnection(catalog, c.req.valid('param').name)
    return c.json(await endLogStream(context, name, c.req.valid('json').slot ?? 'keep'), 202)
  })
}
