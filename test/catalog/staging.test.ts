/** Promises of room in staging: two that begin at once, who goes on writing, who has died, and who was moved. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { insertOperation, updateOperation } from '../../catalog/operations.ts'
import { claimStaging, releaseStaging, stagingRoom } from '../../catalog/staging.ts'
import type { StagingClaim } from '../../model/records.ts'
import { operation, withCatalog } from './support.ts'

const GB = 1e9
const claim = (operationId: string, fields: Partial<StagingClaim> = {}): StagingClaim => ({
  operationId,
  purpose: 'tools',
  fileSystem: 'boot:17',
  bytes: 25 * GB,
  writtenBytes: 0,
  freeBytes: 40 * GB,
  how: 'ask',
  ...fields,
})
const promised = (id: string, bytes: number) => ({
  operation: id,
  connection: operation(id).connection,
  bytes,
})

test('two that begin at once do not both count on the same free bytes', () =>
  withCatalog(async ({ catalog }) => {
    for (const id of ['op-1', 'op-2']) await insertOperation(catalog, operation(id), null)
    const answers = await Promise.all(['op-1', 'op-2'].map(id => claimStaging(catalog, claim(id))))
    const granted = answers.filter(answer => answer.granted)
    assert.equal(granted.length, 1)
    assert.deepEqual(granted[0]?.promised, [])
    const winner = answers[0]?.granted ? 'op-1' : 'op-2'
    const refused = answers.find(answer => !answer.granted)
    assert.deepEqual(refused?.promised, [promised(winner, 25 * GB)])
    // A lost answer is asked for again.
    assert.deepEqual(await claimStaging(catalog, claim(winner)), { granted: true, promised: [] })
    // Who was refused was promised nothing.
    const look = { fileSystem: 'boot:17', bytes: 15 * GB, writtenBytes: 0, freeBytes: 40 * GB }
    assert.deepEqual(await stagingRoom(catalog, look), {
      granted: true,
      promised: [promised(winner, 25 * GB)],
    })
    assert.equal((await stagingRoom(catalog, { ...look, bytes: 15 * GB + 1 })).granted, false)
    assert.deepEqual(await stagingRoom(catalog, { ...look, fileSystem: 'boot:18' }), {
      granted: true,
      promised: [],
    })
  }))

test('what is written counts against its own promise', () =>
  withCatalog(async ({ catalog }) => {
    for (const id of ['op-1', 'op-2']) await insertOperation(catalog, operation(id), null)
    await claimStaging(catalog, claim('op-1'))
    const other = claim('op-2', { bytes: 16 * GB })
    assert.equal((await claimStaging(catalog, other)).granted, false)
    // It has written 20 of its 25, and 20 are free: 15 are left for others, as before.
    const told = claim('op-1', { writtenBytes: 20 * GB, freeBytes: 0, how: 'tell' })
    await claimStaging(catalog, told)
    const later = { ...other, freeBytes: 20 * GB }
    assert.deepEqual(await claimStaging(catalog, later), {
      granted: false,
      promised: [promised('op-1', 5 * GB)],
    })
    assert.equal((await claimStaging(catalog, { ...later, bytes: 15 * GB })).granted, true)
    // More than was promised takes from nobody's promise.
    await claimStaging(catalog, { ...told, writtenBytes: 30 * GB })
    assert.deepEqual((await claimStaging(catalog, { ...later, how: 'look' })).promised, [])
  }))

test('one that goes on needs only what it has not written', () =>
  withCatalog(async ({ catalog }) => {
    await insertOperation(catalog, operation('op-1'), null)
    const again = claim('op-1', { writtenBytes: 24 * GB, freeBytes: 1 * GB })
    assert.equal((await claimStaging(catalog, again)).granted, true)
    assert.equal((await claimStaging(catalog, { ...again, writtenBytes: 23 * GB })).granted, false)
  }))

test('a promise ends when it is given back, and with its operation, whoever ended that', () =>
  withCatalog(async ({ catalog, reopen }) => {
    for (const id of ['op-1', 'op-2', 'op-3']) await insertOperation(catalog, operation(id), null)
    const look = claim('op-3', { how: 'look' })
    await claimStaging(catalog, claim('op-1'))
    await claimStaging(catalog, claim('op-1', { purpose: 'download', bytes: 1 * GB }))
    assert.equal((await claimStaging(catalog, look)).promised.length, 2)
    await releaseStaging(catalog.db, 'op-1', 'tools')
    assert.deepEqual((await claimStaging(catalog, look)).promised, [promised('op-1', 1 * GB)])
    await claimStaging(catalog, claim('op-2', { bytes: 2 * GB }))
    await updateOperation(catalog, 'op-1', { state: 'failed', endedAt: new Date().toISOString() })
    const again = await reopen()
    assert.deepEqual((await claimStaging(again, look)).promised, [promised('op-2', 2 * GB)])
    await assert.rejects(claimStaging(again, claim('op-1')), { code: 'operation.conflict' })
    await updateOperation(again, 'op-2', { state: 'cancelled', endedAt: new Date().toISOString() })
    assert.deepEqual((await claimStaging(again, look)).promised, [])
  }))

test('work that begins anew on another machine takes its promise along', () =>
  withCatalog(async ({ catalog }) => {
    for (const id of ['op-1', 'op-2']) await insertOperation(catalog, operation(id), null)
    await claimStaging(catalog, claim('op-1'))
    await claimStaging(catalog, claim('op-1', { fileSystem: 'other:17' }))
    assert.deepEqual((await claimStaging(catalog, claim('op-2'))).promised, [])
    const there = claim('op-2', { fileSystem: 'other:17', how: 'look' })
    assert.deepEqual((await claimStaging(catalog, there)).promised, [promised('op-1', 25 * GB)])
  }))
