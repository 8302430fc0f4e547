/** The report of a drill: signed as it is, and a page into which nothing of it can write. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { drillPage } from '../../model/drill-page.ts'
import { type DrillReport, rtoOf } from '../../model/drill-report.ts'
import { canonical } from '../../model/manifest.ts'
import { signDrillReport, verifyDrillReport } from '../../storage/drill-report.ts'
import { createInstallation, type InstallationKeys, thumbprint } from '../../storage/keys.ts'
import { signText } from '../../storage/signature.ts'

const hostile = `</script><img src=x onerror=alert(1)>"'&\u0007\u2028`
const at = (seconds: number) => new Date(Date.UTC(2026, 10, 22, 4, 0, seconds)).toISOString()

const report = ({
  installationId,
  publicKey,
}: Pick<InstallationKeys, 'installationId' | 'publicKey'>): DrillReport => ({
  format: 'holdfast-drill/1',
  installationId,
  publicKey,
  fingerprint: 'f',
  drill: 'op-abcd',
  verdict: 'failed',
  startedAt: at(0),
  endedAt: at(9),
  backup: {
    id: '20261122T030000Z-full-abcd',
    connection: hostile,
    engine: 'sqlite',
    method: hostile,
    type: 'full',
    database: hostile,
    serverVersion: hostile,
    encrypted: true,
    toolBytes: 1_234_567,
    storedBytes: 1000,
    startedAt: at(0),
    endedAt: at(0),
    newest: true,
  },
  target: { connection: hostile, sameServer: true, thorough: true, maxSeconds: 60, image: null },
  rto: { totalMs: 7000, steps: [{ step: 'restore', ms: 7000 }] },
  rpo: { dataAsOf: at(0), ageMs: 1000, by: 'backup' },
  canary: null,
  moment: null,
  phases: [
    { phase: hostile, state: 'done', startedAt: at(0), endedAt: at(1), heldMs: 0, summary: hostile },
    { phase: 'restore', state: 'failed', startedAt: at(1), endedAt: null, heldMs: 0, summary: null },
  ],
  checks: [{ id: 'x', title: hostile, answer: 'fail', detail: hostile }],
  rows: [{ table: hostile, rows: 3, expected: null }],
  error: { code: hostile, detail: hostile, hint: hostile },
  warnings: [hostile],
  tornDownAt: null,
})

describe('the report of a drill', () => {
  test('is believed as it was signed, by whoever signed it, and otherwise not', async () => {
    const [own, other] = await Promise.all([createInstallation(), createInstallation()])
    const [mine, theirs] = [await thumbprint(own.publicKey), await thumbprint(other.publicKey)]
    const signed = await signDrillReport(report(own), own.signingKey)
    const { signature: _, ...content } = signed
    assert.deepEqual(await verifyDrillReport(JSON.parse(JSON.stringify(signed)), mine), content)
    const forged = { code: 'manifest.forged' }
    await assert.rejects(verifyDrillReport(signed, theirs), forged)
    // Whoever puts a key of their own into it is not who was asked for.
    const exchanged = await signDrillReport(report({ ...own, publicKey: other.publicKey }), other.signingKey)
    await assert.rejects(verifyDrillReport(exchanged, mine), forged)
    await assert.rejects(verifyDrillReport({ ...signed, verdict: 'passed' }, mine), forged)
    await assert.rejects(verifyDrillReport({ ...signed, more: 1 }, mine), {
      code: 'manifest.invalid',
    })
    const manifests = { kid: own.installationId, typ: 'holdfast-manifest' }
    const asManifest = await signText(canonical(content), manifests, own.signingKey)
    await assert.rejects(verifyDrillReport({ ...signed, signature: asManifest }, mine), forged)
  })

  test('as a page holds what it was told as text, and the signed document unchanged', async () => {
    const own = await createInstallation()
    const signed = await signDrillReport(report(own), own.signingKey)
    const html = drillPage(signed)
    assert.ok(!html.includes('<img'), 'no element of its own')
    assert.ok(!html.includes('\u0007'))
    assert.doesNotMatch(html, /\b(?:src|href|on[a-z]+)="/)
    assert.equal(html.split('</script>').length, 2)
    const [, embedded = ''] = /<script type="application\/json" id="report">(.*)<\/script>/.exec(html) ?? []
    assert.deepEqual(JSON.parse(embedded), signed)
    await verifyDrillReport(JSON.parse(embedded), await thumbprint(own.publicKey))
  })

  test('counts until the copy was proven; what stood still is left out', () => {
    const phase = (name: 'plan' | 'restore' | 'prove' | 'examine', from: number, to: number, heldMs = 0) =>
      ({ phase: name, state: 'done', startedAt: at(from), endedAt: at(to), heldMs }) as const
    const phases = [
      phase('plan', 0, 1),
      phase('restore', 1, 21, 5000),
      phase('prove', 21, 23),
      phase('examine', 23, 60),
    ]
    const { totalMs, steps } = rtoOf(phases)
    assert.equal(totalMs, 18_000)
    assert.deepEqual(
      steps.map(one => one.ms),
      [1000, 0, 15_000, 0, 2000],
    )
    assert.equal(rtoOf(phases.slice(0, 2)).totalMs, null)
  })
})
