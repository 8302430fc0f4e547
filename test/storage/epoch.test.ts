/** Who may write below a prefix: first use, races, a rebuilt catalog, takeover. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { HoldfastError } from '../../model/errors.ts'
import type { WriterIdentity } from '../../model/records.ts'
import type { Destination } from '../../storage/destination.ts'
import { claimOrCheck, takeover } from '../../storage/installation.ts'
import { failing, inDestination } from './helpers.ts'

const writer = (instanceId: string, installationId = 'installation1'): WriterIdentity => ({
  installationId,
  instanceId,
  publicKey: { kty: 'OKP', crv: 'Ed25519', x: instanceId },
})

describe('epochs', () => {
  it('the first to come holds epoch 1, and is asked again cheaply', async () => {
    await inDestination(async destination => {
      assert.equal(await claimOrCheck(destination, writer('a'), null), 1)
      let calls = 0
      const counted: Destination = {
        ...destination,
        read: (...args) => {
          calls += 1
          return destination.read(...args)
        },
        put: async () => assert.fail('nothing is to be written'),
      }
      assert.equal(await claimOrCheck(counted, writer('a'), 1), 1)
      assert.ok(calls <= 2)
    })
  })

  it('of many that come at once one holds it, whatever they remember', async () => {
    await inDestination(async destination => {
      const outcomes = await Promise.allSettled(
        ['a', 'b', 'c', 'd'].map(id => claimOrCheck(destination, writer(id), null)),
      )
      assert.equal(outcomes.filter(outcome => outcome.status === 'fulfilled').length, 1)
      for (const outcome of outcomes) {
        if (outcome.status === 'rejected') assert.equal(outcome.reason.code, 'destination.read-only')
      }
    })
  })

  it('a rebuilt catalog is read-only until it takes over; then the old one is, from its next step on', async () => {
    await inDestination(async destination => {
      const old = writer('old')
      const rebuilt = writer('rebuilt')
      assert.equal(await claimOrCheck(destination, old, null), 1)
      const refused = await failing('destination.read-only', claimOrCheck(destination, rebuilt, null))
      assert.match(refused.message, /epoch 1 .*installation1.*instance old.*since \d{4}-/)
      assert.equal(await takeover(destination, rebuilt, 'the machine is gone'), 2)
      assert.equal(await claimOrCheck(destination, rebuilt, 2), 2)
      assert.equal(await claimOrCheck(destination, rebuilt, null), 2)
      await failing('destination.read-only', claimOrCheck(destination, old, 1))
      assert.equal(await takeover(destination, rebuilt, 'again'), 2)
      assert.equal(await takeover(destination, old, 'it was not gone'), 3)
      await failing('destination.read-only', claimOrCheck(destination, rebuilt, 2))
    })
  })

  it('of two that take over at once one wins', async () => {
    await inDestination(async destination => {
      await claimOrCheck(destination, writer('old'), null)
      const ids = ['a', 'b', 'c']
      const outcomes = await Promise.allSettled(ids.map(id => takeover(destination, writer(id), 'race')))
      const winners = outcomes.flatMap((outcome, index) =>
        outcome.status === 'fulfilled' ? [ids[index]!] : [],
      )
      // Who came after the winner was done took over from it; at each epoch there is one holder.
      assert.ok(winners.length >= 1)
      const holders = await Promise.allSettled(ids.map(id => claimOrCheck(destination, writer(id), null)))
      assert.equal(holders.filter(outcome => outcome.status === 'fulfilled').length, 1)
    })
  })

  it('a lost answer does not lock out the one who claimed', async () => {
    await inDestination(async destination => {
      const deaf: Destination = {
        ...destination,
        put: async (...args) => {
          await destination.put(...args)
          throw new HoldfastError('destination.unreachable', 'the connection was cut')
        },
      }
      assert.equal(await claimOrCheck(deaf, writer('a'), null), 1)
      assert.equal(await takeover(deaf, writer('b'), 'test'), 2)
    })
  })

  it('an emptied prefix is claimed again; an epoch that cannot be read locks everybody out', async () => {
    await inDestination(async destination => {
      assert.equal(await claimOrCheck(destination, writer('a'), 7), 1)
      await destination.put('epoch-1.json', Buffer.from('{"epoch":1}'))
      await failing('destination.read-only', claimOrCheck(destination, writer('a'), 1))
    })
  })
})
