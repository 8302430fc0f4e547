/**
 * `npm run bench:bandwidth -- [--json]`: how exactly limits of bandwidth are kept. Bytes are counted where they pass on their way
 * between the workers and a real S3 server, and the rate is the slope of the line through them. Random data, not
 * compressed, so that nothing but the limit says how long it takes. Exits 1 when one is off by more than 5 %.
 */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { OperationView } from '../model/views.ts'
import { startVersitygw } from '../test/servers/versitygw.ts'
import { makeRandomSqlite } from '../test/system/databases.ts'
import { s3Input, startStack } from '../test/system/stack.ts'

const json = process.argv.includes('--json')
const megabytes = 200
const limit = 10e6
const tolerance = 0.05

let passed = 0
const store = await startVersitygw({})
const proxy = createServer(client => {
  const server = connect(Number(new URL(store.endpoint).port), new URL(store.endpoint).hostname)
  for (const [from, to] of [
    [client, server],
    [server, client],
  ] as const) {
    from.on('data', chunk => (passed += chunk.length))
    from.on('error', () => to.destroy())
    from.pipe(to)
  }
}).listen(0, '127.0.0.1')
await once(proxy, 'listening')
const endpoint = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`

const stack = await startStack({ worker: false })
try {
  // Two processes: what is shared is shared between them, too.
  for (let worker = 0; worker < 2; worker += 1) stack.startWorker({ HOLDFAST_URL: stack.apiUrl })
  for (const name of ['one', 'two']) {
    const path = join(stack.directory, `${name}.db`)
    makeRandomSqlite(path, megabytes)
    await stack.expectOk('POST', '/v1/connections', { name, url: `sqlite:${path}`, method: 'physical' })
  }
  await stack.expectOk('POST', '/v1/destinations', s3Input(store, 'vault', 'bench', endpoint))
  const compression = { method: 'none' }
  const backup = async (connection: string, more: object = {}) =>
    succeeded(await stack.ended((await stack.backup({ connection, compression, ...more })).id, 600))

  let made = ''
  await measured('a backup with a limit of its own', async () => {
    made = (await backup('one', { bandwidth: '10MB/s' })).backup
  })
  await stack.expectOk('PUT', '/v1/bandwidth/destination/vault', { limit: '10MB/s' })
  await measured('two backups that share the limit of a destination', () =>
    Promise.all(['one', 'two'].map(connection => backup(connection))),
  )
  // Those who have just ended still count for six seconds.
  await sleep(7000)
  await measured('reading one of them again', async () => {
    const path = `/v1/backups/${made}/verify`
    const { operation } = await stack.expectOk<{ operation: OperationView }>('POST', path, {})
    succeeded(await stack.ended(operation.id, 600))
  })
} finally {
  await stack.stop()
  proxy.close()
  await store.stop()
}

function succeeded(operation: OperationView): OperationView {
  if (operation.state === 'succeeded') return operation
  throw new Error(`${operation.kind} ${operation.state}: ${JSON.stringify(operation.error)}`)
}

async function measured(what: string, work: () => Promise<unknown>): Promise<void> {
  const samples: { seconds: number; bytes: number }[] = []
  const before = passed
  const timer = setInterval(
    () => samples.push({ seconds: performance.now() / 1000, bytes: passed - before }),
    50,
  )
  await work().finally(() => clearInterval(timer))
  const total = passed - before
  // Neither what comes before the first part nor what comes after the last one.
  const under = samples.filter(({ bytes }) => bytes > 0.05 * total && bytes < 0.95 * total)
  const mean = (of: (sample: (typeof samples)[number]) => number) =>
    under.reduce((sum, sample) => sum + of(sample), 0) / under.length
  const [t, b] = [mean(({ seconds }) => seconds), mean(({ bytes }) => bytes)]
  const rate =
    mean(({ seconds, bytes }) => (seconds - t) * (bytes - b)) / mean(({ seconds }) => (seconds - t) ** 2)
  const off = rate / limit - 1
  if (!(Math.abs(off) <= tolerance)) process.exitCode = 1
  if (json) console.log(JSON.stringify({ what, bytes: total, bytesPerSecond: Math.round(rate), off }))
  else {
    const share = `${off < 0 ? '' : '+'}${(off * 100).toFixed(1)} %`
    console.log(`${what}: ${(total / 1e6).toFixed(0)} MB at ${(rate / 1e6).toFixed(2)} MB/s, ${share}`)
  }
}
