/**
 * Limits of bandwidth on a whole Holdfast: a backup that a limit holds back says so and keeps alive, goes on at once when the
 * limit is taken away, and two workers share one limit. How exactly a limit is kept is measured by bench/bandwidth.ts.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { z } from 'zod'
import type { bandwidthView } from '../../model/views.ts'
import { digestSqlite } from '../support/digest.ts'
import { makeRandomSqlite } from './databases.ts'
import { directory, eventually, type Stack, startStack } from './stack.ts'

describe('bandwidth', () => {
  let stack: Stack
  let source = ''
  const limit = (of: string, text: string | null) =>
    stack.expectOk('PUT', `/v1/bandwidth/${of}`, { limit: text })
  const limits = async () =>
    (await stack.expectOk<{ items: z.infer<typeof bandwidthView>[] }>('GET', '/v1/bandwidth')).items
  const limitedTo = (id: string) =>
    eventually(`operation ${id} is limited`, async () => {
      const { progress } = await stack.operation(id)
      return progress?.limitBytesPerSecond ?? undefined
    })

  before(async () => {
    stack = await startStack()
    source = join(stack.directory, 'source.db')
    makeRandomSqlite(source, 20)
    await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: await directory(stack, 'disk') })
    for (const name of ['one', 'two']) {
      const path = name === 'one' ? source : join(stack.directory, 'two.db')
      if (name === 'two') makeRandomSqlite(path, 20)
      await stack.expectOk('POST', '/v1/connections', { name, url: `sqlite:${path}`, method: 'logical' })
    }
  })
  after(async () => await stack?.stop())

  test('a backup is held back, says by what, and goes on when the limit is gone; so does a restore', async () => {
    await limit('destination/disk', '20kB/s')
    const { id } = await stack.backup({ connection: 'one' })
    assert.equal(await limitedTo(id), 20_000)
    assert.deepEqual(await limits(), [
      { kind: 'destination', name: 'disk', limit: '20kB/s', bytesPerSecond: 20_000, transfers: 1 },
    ])
    // It would take a quarter of an hour.
    await limit('destination/disk', null)
    const made = await stack.ended(id)
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))

    const database = join(stack.directory, 'back.db')
    const target = { connection: 'one', database }
    await limit('host/local', '30kB/s')
    const restore = await stack.restore({ backup: made.backup, target })
    assert.equal(await limitedTo(restore.id), 30_000)
    await limit('host/local', '00:00-24:00 Europe/Berlin none')
    const restored = await stack.ended(restore.id)
    assert.equal(restored.state, 'succeeded', JSON.stringify(restored.error))
    assert.deepEqual(digestSqlite(database), digestSqlite(source))
  })

  test('two operations on two workers share it; one that is cancelled leaves its share; its own limit counts, too', async () => {
    stack.startWorker()
    await limit('destination/disk', '40kB/s')
    const [one, two] = await Promise.all(
      ['one', 'two'].map(connection => stack.backup({ connection, bandwidth: '30kB/s' })),
    )
    assert.ok(one && two)
    await eventually('both have half', async () => {
      const shares = await Promise.all([one, two].map(({ id }) => limitedTo(id)))
      return shares.every(share => share === 20_000) || undefined
    })
    await stack.expectOk('POST', `/v1/operations/${two.id}/cancel`)
    assert.equal((await stack.ended(two.id)).state, 'cancelled')
    await eventually('one has all that its own limit leaves it', async () =>
      (await limitedTo(one.id)) === 30_000 ? true : undefined,
    )
    const path = `/v1/operations/${one.id}`
    await stack.expectOk('PATCH', path, { bandwidth: '15kB/s' })
    await eventually('its own limit is another one', async () =>
      (await limitedTo(one.id)) === 15_000 ? true : undefined,
    )
    assert.equal((await stack.refused('PATCH', path, { bandwidth: 'fast' })).status, 422)
    await limit('destination/disk', null)
    await stack.expectOk('PATCH', path, { bandwidth: null })
    assert.equal((await stack.ended(one.id)).state, 'succeeded')
    assert.equal((await stack.refused('PATCH', path, { bandwidth: null })).body.code, 'operation.state')
    assert.deepEqual(
      (await limits()).filter(({ kind }) => kind === 'operation'),
      [],
    )
  })

  test('only what there is can be limited, by what is a limit', async () => {
    assert.equal(
      (await stack.refused('PUT', '/v1/bandwidth/destination/none', { limit: '1MB/s' })).status,
      404,
    )
    assert.equal((await stack.refused('PUT', '/v1/bandwidth/host/none', { limit: '1MB/s' })).status, 404)
    const wrong = await stack.refused('PUT', '/v1/bandwidth/destination/disk', { limit: 'fast' })
    assert.equal(wrong.status, 422)
    assert.match(JSON.stringify(wrong.body), /no rate such as 10MB\/s/)
  })
})
