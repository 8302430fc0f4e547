/** What killed checks left behind goes after a day, and nothing else does. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { removeOldPrechecks } from '../../storage/prechecks.ts'
import { inDestination } from './helpers.ts'

it('removes objects and uploads of checks that are older than a day', async () => {
  await inDestination(async destination => {
    const body = Buffer.from('x')
    await destination.put('.holdfast-precheck/one', body)
    await destination.openUpload('.holdfast-precheck/two-parts')
    await destination.put('.holdfast-precheck-not', body)
    await destination.put('shop/backups/a/manifest.json', body)
    await destination.openUpload('shop/backups/a/one/artifact')
    const left = async () => {
      const found: string[] = []
      for await (const { key } of destination.list('')) found.push(key)
      for await (const { key } of destination.listUploads('')) found.push(`upload ${key}`)
      return found
    }
    const before = await left()
    const tomorrow = new Date(Date.now() + 25 * 3600 * 1000)
    assert.deepEqual(await removeOldPrechecks(destination, new Date(), false), [])
    const expected = ['.holdfast-precheck/two-parts', '.holdfast-precheck/one']
    assert.deepEqual(await removeOldPrechecks(destination, tomorrow, true), expected)
    assert.deepEqual(await left(), before, 'a dry run only looks')
    assert.deepEqual(await removeOldPrechecks(destination, tomorrow, false), expected)
    assert.deepEqual(await left(), [
      '.holdfast-precheck-not',
      'shop/backups/a/manifest.json',
      'upload shop/backups/a/one/artifact',
    ])
  })
})
