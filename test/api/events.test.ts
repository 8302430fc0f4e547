/** Server-sent events of operations. No Temporal is there: states are changed as a worker changes them. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { openCatalog } from '../../catalog/open.ts'
import { insertOperation } from '../../catalog/operations.ts'
import { ensureSecretKey } from '../../catalog/secrets.ts'
import type { TokenMade } from '../../model/access.ts'
import type { OperationView, Problem } from '../../model/views.ts'
import { operation } from '../catalog/support.ts'
import { eventually, startTestApi, type TestApi } from './support.ts'

interface Event {
  id: string
  view: OperationView
}

describe('events', () => {
  let t: TestApi
  let count = 0

  /** Operations that a dead API left behind. */
  const ids = Array.from({ length: 5 }, (_, n) => `op-watched${n + 1}`)
  before(async () => {
    t = await startTestApi()
    await t.restart(async () => {
      const { key } = await ensureSecretKey(t.settings)
      const catalog = await openCatalog({ url: t.settings.catalogUrl, secretKey: key })
      for (const id of ids)
        await insertOperation(catalog, operation(id, { runId: 'run', state: 'running' }), null)
      await catalog.close()
    })
  })
  after(() => t.stop())
  const next = () => ids[count++] ?? ''

  const change = async (id: string, update: object) => {
    const headers = { authorization: `Bearer ${t.workerToken}` }
    const answer = await t.call('POST', '/internal/v1/updateOperation', { args: [id, update] }, headers)
    assert.equal(answer.status, 200)
  }

  const open = async (id: string, headers: Record<string, string> = {}, token = t.token) => {
    const ended = new AbortController()
    const response = await fetch(`${t.api.url}/v1/operations/${id}/events`, {
      headers: { authorization: `Bearer ${token}`, ...headers },
      signal: ended.signal,
    })
    return { response, leave: () => ended.abort() }
  }

  /** Events as they come; ends with the stream. */
  async function* eventsOf(response: Response): AsyncGenerator<Event> {
    let text = ''
    const decoder = new TextDecoder()
    for await (const piece of response.body ?? []) {
      text += decoder.decode(piece as Uint8Array, { stream: true })
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        const lines = text.slice(0, end).split('\n')
        text = text.slice(end + 2)
        const field = (name: string) =>
          lines.find(line => line.startsWith(`${name}: `))?.slice(name.length + 2)
        if (field('event') !== 'operation') continue
        yield { id: field('id') ?? '', view: JSON.parse(field('data') ?? '') as OperationView }
      }
    }
  }

  test('the state now, each change, the end; who comes back misses nothing and gets nothing twice', async () => {
    const id = next()
    const { response } = await open(id)
    assert.equal(response.headers.get('content-type'), 'text/event-stream')
    assert.equal(response.headers.get('cache-control'), 'no-store')
    const events = eventsOf(response)
    const read = async () => (await events.next()).value as Event
    const first = await read()
    assert.deepEqual([first.view.id, first.view.state], [id, 'running'])
    await change(id, { warnings: ['halfway'] })
    const second = await read()
    assert.deepEqual(second.view.warnings, ['halfway'])
    assert.notEqual(second.id, first.id)
    await change(id, { state: 'succeeded' })
    const last = await read()
    assert.equal(last.view.state, 'succeeded')
    assert.equal((await events.next()).done, true, 'the stream ends with its operation')

    const after = async (seen: string) => {
      const again = await open(id, { 'last-event-id': seen })
      const found: Event[] = []
      for await (const event of eventsOf(again.response)) found.push(event)
      return { status: again.response.status, states: found.map(event => event.view.state) }
    }
    assert.deepEqual(await after(first.id), { status: 200, states: ['succeeded'] })
    // To a browser this says: do not come back.
    assert.deepEqual(await after(last.id), { status: 204, states: [] })
    assert.equal((await open('op-nothing')).response.status, 404)
  })

  test('there is a bound, and a place that was left is free again', async () => {
    const id = next()
    const streams = await Promise.all(Array.from({ length: 20 }, () => open(id)))
    assert.ok(streams.every(stream => stream.response.status === 200))
    const more = await open(id)
    assert.equal(more.response.status, 429)
    assert.equal(((await more.response.json()) as Problem).code, 'request.rate-limited')
    for (const stream of streams) stream.leave()
    const again = await eventually('a place is free', async () => {
      const stream = await open(id)
      if (stream.response.status === 200) return stream
      await stream.response.body?.cancel()
      return undefined
    })
    again.leave()
  })

  test('a token that was revoked sees no more', async () => {
    const id = next()
    const made = await t.call<TokenMade>('POST', '/v1/tokens', { name: 'watcher', role: 'viewer' })
    const { response } = await open(id, {}, made.body.token)
    const events = eventsOf(response)
    await events.next()
    assert.equal((await t.call('DELETE', `/v1/tokens/${made.body.id}`)).status, 204)
    await change(id, { warnings: ['not for them'] })
    assert.equal((await events.next()).done, true)
  })

  test('an API that ends takes its streams along', async () => {
    const id = next()
    const { response } = await open(id)
    const events = eventsOf(response)
    await events.next()
    const [, last] = await Promise.all([t.restart(), events.next()])
    assert.equal(last.done, true)
    assert.doesNotMatch(t.log(), /ended early|unexpected error/)
  })
})
