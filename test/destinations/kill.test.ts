/** Uploaders that are killed with -9, between parts and while they complete; another process goes on. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chown, link, mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Azurite, startAzurite } from '../servers/azurite.ts'
import { type Gcs, startGcs } from '../servers/gcs.ts'
import { sshUserId, startSshd, type TestSshd } from '../servers/sshd.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { collect, keys } from './conformance.ts'
import { send } from './conformance-uploads.ts'
import { localRecord, localSubject, serverRecord } from './subjects.ts'
import { openOrdered, partBody, type UploadOrder } from './uploader.ts'

interface Run {
  lines: string[]
  child: ChildProcess
  /** Resolves once the line was said; rejects if the process ends without it. */
  said(line: string): Promise<void>
  ended: Promise<number | null>
}

function upload(order: UploadOrder): Run {
  const script = new URL('./uploader.ts', import.meta.url).pathname
  const child = spawn(process.execPath, [script], { stdio: ['pipe', 'pipe', 'inherit'] })
  child.stdin?.end(JSON.stringify(order))
  const lines: string[] = []
  const reader = createInterface({ input: child.stdout ?? process.stdin })
  reader.on('line', line => lines.push(line))
  const closed = once(reader, 'close')
  const ended = once(child, 'close').then(([code]) => code as number | null)
  return {
    lines,
    child,
    ended,
    async said(line) {
      while (!lines.some(found => found.startsWith(line))) {
        const more = await Promise.race([once(reader, 'line'), closed.then(() => undefined)])
        if (more === undefined && !lines.some(found => found.startsWith(line))) {
          throw new Error(`The uploader ended before it said "${line}": ${lines.join(' | ')}`)
        }
      }
    },
  }
}

async function kill(run: Run): Promise<void> {
  run.child.kill('SIGKILL')
  await run.ended
}

const uploadIdOf = (run: Run) => run.lines.find(line => line.startsWith('upload '))?.slice('upload '.length)

async function expectWhole(order: UploadOrder): Promise<void> {
  const destination = await openOrdered(order)
  const expected = Buffer.concat(
    Array.from({ length: order.parts }, (_, index) => partBody(order, index + 1)),
  )
  assert.ok(expected.equals(await collect(await destination.get(order.key))), 'the bytes are equal')
  assert.deepEqual(await keys(destination.list('')), [order.key])
  for await (const open of destination.listUploads('')) assert.fail(`an upload was left: ${open.uploadId}`)
  await destination.remove(order.key)
  await destination.close()
}

/** `sentTwice`: how many bytes beyond its length the store was sent for the object, where all parts are offered to it again. */
function killTests(
  name: string,
  place: () => Pick<UploadOrder, 'record' | 'secrets' | 'ssh'>,
  sentTwice?: (key: string, bytes: number) => number,
) {
  const order = (seed: string): UploadOrder => ({
    ...place(),
    key: `killed/${seed}/artifact`,
    seed,
    parts: 4,
    partBytes: 5 * 1024 * 1024,
  })

  test(`${name}: killed between parts and in their middle, gone on with by others`, async () => {
    const first = order('between')
    const one = upload(first)
    await one.said('sent 1')
    await one.said('sending 2')
    await kill(one)
    const uploadId = uploadIdOf(one)
    assert.ok(uploadId)
    const two = upload({ ...first, uploadId })
    await two.said('sent 3')
    await kill(two)
    const three = upload({ ...first, uploadId })
    assert.equal(await three.ended, 0)
    const again = three.lines.filter(line => line.startsWith('sent '))
    if (sentTwice === undefined) {
      assert.ok(!again.includes('sent 1') && !again.includes('sent 3'), `sent again: ${again.join(', ')}`)
    } else {
      const twice = sentTwice(first.key, 3 * first.partBytes + 1234)
      assert.ok(twice <= first.partBytes, `${twice} bytes were sent twice; a part has ${first.partBytes}`)
    }
    await expectWhole(first)
  })

  test(`${name}: killed while it completes`, async () => {
    for (const [index, delayMs] of [0, 1, 3, 10, 30].entries()) {
      const mine = order(`completing-${index}`)
      const one = upload(mine)
      await one.said('completing')
      // Any moment will do: whatever the kill cuts, the outcome has to be the same.
      await sleep(delayMs)
      await kill(one)
      const uploadId = uploadIdOf(one)
      assert.ok(uploadId)
      const two = upload({ ...mine, uploadId })
      assert.equal(await two.ended, 0)
      const again = two.lines.filter(line => line.startsWith('sent '))
      if (sentTwice === undefined) assert.deepEqual(again, [], 'no byte is sent again')
      else assert.ok(sentTwice(mine.key, 3 * mine.partBytes + 1234) <= 2 * 1234, 'nor are any but the last')
      await expectWhole(mine)
    }
  })
}

describe('kill -9 of an uploader into a local directory', () => {
  let subject: Awaited<ReturnType<typeof localSubject>>
  before(async () => {
    subject = await localSubject()
  })
  after(async () => subject?.close())

  killTests('local', () => ({ record: localRecord(subject.root), secrets: {} }))

  // Each state that a kill inside of complete can leave, made by hand.
  const states: Record<string, (directory: string, path: string) => Promise<void>> = {
    'data was taken from the writers': async directory => {
      await rename(join(directory, 'data'), join(directory, 'object'))
    },
    'the object was linked': async (directory, path) => {
      await rename(join(directory, 'data'), join(directory, 'object'))
      await mkdir(dirname(path), { recursive: true })
      await link(join(directory, 'object'), path)
    },
    'the upload was half removed': async (directory, path) => {
      await rename(join(directory, 'data'), join(directory, 'object'))
      await mkdir(dirname(path), { recursive: true })
      await link(join(directory, 'object'), path)
      await rename(directory, join(dirname(directory), `gone-${directory.slice(-24)}`))
    },
  }
  for (const [state, make] of Object.entries(states)) {
    test(`complete goes on where a killed one was: ${state}`, async () => {
      const { destination, root, kept } = subject
      const key = `states/${state}/artifact`
      const before = await kept()
      const uploadId = await destination.openUpload(key)
      const parts = [
        await send(destination, key, uploadId, 1, 0, Buffer.from('first ')),
        await send(destination, key, uploadId, 2, 6, Buffer.from('second')),
      ]
      await make(join(root, '.holdfast-uploads', uploadId), join(root, key))
      assert.equal((await destination.completeUpload(key, uploadId, parts)).bytes, 12)
      assert.equal((await collect(await destination.get(key))).toString(), 'first second')
      await destination.abortUpload(key, uploadId)
      await destination.remove(key)
      assert.deepEqual(await kept(), before)
    })
  }
})

describe('kill -9 of an uploader into S3, and of the store', () => {
  let root: string
  let server: Versitygw
  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'holdfast-store-'))
    server = await startVersitygw({ root })
  })
  after(async () => {
    await server?.stop()
    await rm(root, { recursive: true, force: true })
  })

  killTests('s3', () => ({ record: server.destinationRecord('kills'), secrets: server.secrets }))

  test('the store is killed while it completes and comes back on the same port', async () => {
    const order: UploadOrder = {
      record: server.destinationRecord('kills'),
      secrets: server.secrets,
      key: 'store/artifact',
      seed: 'store',
      parts: 3,
      partBytes: 5 * 1024 * 1024,
    }
    const one = upload(order)
    await one.said('completing')
    await server.kill()
    const { port, secrets } = server
    await kill(one)
    server = await startVersitygw({ root, port, credentials: secrets })
    const uploadId = uploadIdOf(one)
    assert.ok(uploadId)
    assert.equal(await upload({ ...order, uploadId }).ended, 0)
    await expectWhole(order)
  })
})

describe('kill -9 of an uploader into GCS', () => {
  let server: Gcs
  before(async () => {
    server = await startGcs()
  })
  after(async () => server?.stop())

  killTests(
    'gcs',
    () => ({ record: server.destinationRecord('kills'), secrets: server.secrets }),
    (key, bytes) => (server.front.received.get(`kills/${key}`) ?? 0) - bytes,
  )
})

describe('kill -9 of an uploader into Azure, and of the store', () => {
  let root: string
  let server: Azurite
  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'holdfast-store-'))
    server = await startAzurite({ root })
  })
  after(async () => {
    await server?.stop()
    await rm(root, { recursive: true, force: true })
  })

  killTests('azure', () => ({ record: server.destinationRecord('kills'), secrets: server.secrets }))
})

describe('kill -9 of an uploader onto a server, over SSH', () => {
  let server: TestSshd
  let ssh: NonNullable<UploadOrder['ssh']>
  before(async () => {
    server = await startSshd()
    await mkdir(join(server.home, 'backups'))
    await chown(join(server.home, 'backups'), sshUserId, sshUserId)
    ssh = { login: await server.login(), runAs: null, stagingRoot: join(server.home, 'staging') }
  })
  after(async () => server?.stop())

  killTests('server', () => ({
    record: serverRecord('db', join(server.home, 'backups')),
    secrets: {},
    ssh,
  }))
})
