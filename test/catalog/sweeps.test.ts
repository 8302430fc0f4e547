/** What a sweep may take, as the catalog says it: whoever is at work comes first, and whoever was first keeps the other out. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { recordAttempt } from '../../catalog/attempts.ts'
import type { Catalog } from '../../catalog/open.ts'
import { insertOperation, updateOperation } from '../../catalog/operations.ts'
import { oldestOpenSince } from '../../catalog/pins.ts'
import { claimLeftovers, noteSwept, standings, sweptBy, unclaim } from '../../catalog/sweeps.ts'
import type { OperationRecord } from '../../model/records.ts'
import { operation, withCatalog } from './support.ts'

const patience = { unattended: false, parkSeconds: 60, parkRetrySeconds: 10 }
const backupId = '20261121T031400Z-full-9f3kabcd'

const sweepOf = (id: string): OperationRecord =>
  operation(id, {
    kind: 'sweep',
    connection: null,
    engine: null,
    backupId: null,
    destination: null,
    input: { version: 1, operationId: id, destination: null, unknown: false, dryRun: false, ...patience },
  })

const copyOf = (id: string, destination = 'vault'): OperationRecord =>
  operation(id, {
    kind: 'copy',
    destination,
    input: {
      version: 1,
      operationId: id,
      backupId,
      destination,
      copies: ['attic'],
      sourceConnection: 'shop',
      ...patience,
    },
  })

const attempt = {
  attemptId: 'attempt-one',
  operationId: 'op-backup',
  backupId,
  connection: 'shop',
  destinations: ['vault'],
  createdAt: '2026-11-21T03:14:00.000Z',
  artifacts: [],
}

/** A closed backup with an attempt at vault, and an open sweep. */
async function afterABackup(catalog: Catalog): Promise<void> {
  await insertOperation(catalog, operation('op-backup'), null)
  await recordAttempt(catalog, attempt)
  await updateOperation(catalog, 'op-backup', { state: 'failed' })
  await insertOperation(catalog, sweepOf('op-sweep'), null)
}

describe('claims of a sweep', () => {
  test('an open operation keeps its folder, a closed one does not', () =>
    withCatalog(async ({ catalog }) => {
      await insertOperation(catalog, operation('op-backup'), null)
      await recordAttempt(catalog, attempt)
      await insertOperation(catalog, sweepOf('op-sweep'), null)
      assert.deepEqual(await claimLeftovers(catalog, 'op-sweep', 'vault', backupId), { state: 'in use' })
      await updateOperation(catalog, 'op-backup', { state: 'parked' })
      assert.deepEqual(await claimLeftovers(catalog, 'op-sweep', 'vault', backupId), { state: 'in use' })
      await updateOperation(catalog, 'op-backup', { state: 'failed' })
      const ended = { state: 'ended', attempted: true, here: false, elsewhere: false }
      assert.deepEqual(await claimLeftovers(catalog, 'op-sweep', 'vault', backupId), ended)
      assert.deepEqual(await standings(catalog, 'op-sweep', 'attic', [backupId]), [
        { state: 'unknown', openSince: null },
      ])
      assert.equal(await oldestOpenSince(catalog.db, 'vault'), undefined, 'its own claim is nobody at work')
    }))

  test('while it is claimed no copying to there begins; elsewhere it may', () =>
    withCatalog(async ({ catalog }) => {
      await afterABackup(catalog)
      await claimLeftovers(catalog, 'op-sweep', 'vault', backupId)
      await assert.rejects(insertOperation(catalog, copyOf('op-copy'), null), {
        code: 'operation.conflict',
        message: /Sweep op-sweep is removing/,
      })
      await insertOperation(catalog, copyOf('op-other', 'cellar'), null)
      await unclaim(catalog, 'op-sweep')
      await insertOperation(catalog, copyOf('op-copy'), null)
      assert.deepEqual(await claimLeftovers(catalog, 'op-sweep', 'vault', backupId), { state: 'in use' })
    }))

  test('two sweeps do not claim the same; a closed one claims nothing and holds nothing', () =>
    withCatalog(async ({ catalog }) => {
      await afterABackup(catalog)
      await insertOperation(catalog, sweepOf('op-second'), null)
      assert.equal((await claimLeftovers(catalog, 'op-sweep', 'vault', backupId)).state, 'ended')
      assert.equal((await claimLeftovers(catalog, 'op-second', 'vault', backupId)).state, 'in use')
      await updateOperation(catalog, 'op-sweep', { state: 'cancelled' })
      assert.equal((await claimLeftovers(catalog, 'op-second', 'vault', backupId)).state, 'ended')
      await assert.rejects(claimLeftovers(catalog, 'op-sweep', 'vault', backupId), {
        code: 'operation.conflict',
      })
    }))

  test('what is told twice is kept once; what could not be removed is not told as removed', () =>
    withCatalog(async ({ catalog }) => {
      await insertOperation(catalog, sweepOf('op-sweep'), null)
      const removed = (what: string) => ({ became: 'removed', what }) as const
      const odd = 'vault/shop: a: b.c: x/y z'
      await noteSwept(catalog, 'op-sweep', 'vault', [removed('vault/a'), removed(odd)])
      await noteSwept(catalog, 'op-sweep', 'vault', [removed('vault/a'), removed(odd)])
      await noteSwept(catalog, 'op-sweep', 'attic', [removed('attic/a')])
      const locked = {
        became: 'skipped',
        what: 'vault/a',
        code: 'destination.locked',
        detail: 'vault/a: destination.locked: it is locked\nuntil then.',
      } as const
      assert.deepEqual(await noteSwept(catalog, 'op-sweep', 'vault', [locked]), { removed: 1, skipped: 1 })
      assert.deepEqual(await sweptBy(catalog, 'op-sweep'), {
        removed: [odd, 'attic/a'],
        skipped: [
          {
            what: 'vault/a',
            code: 'destination.locked',
            detail: 'vault/a: destination.locked: it is locked until then.',
          },
        ],
      })
    }))
})
