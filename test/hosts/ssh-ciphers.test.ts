/** Streams over a link are what was sent, with each kind of cipher and over keys that are made anew on the way. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { test } from 'node:test'
import { openSshHost } from '../../hosts/ssh/index.ts'
import { startSshd } from '../servers/sshd.ts'

const bytes = randomBytes(1_000_003)
const times = 24
const digest = createHash('sha256')
  .update(Buffer.concat(Array<Buffer>(times).fill(bytes)))
  .digest('hex')
const job = { operation: 'op', step: 'step', token: 'a' }

for (const cipher of ['aes128-gcm@openssh.com', 'chacha20-poly1305@openssh.com', 'aes256-ctr']) {
  test(`${cipher}: there and back`, async () => {
    const server = await startSshd({ config: `Ciphers ${cipher}\nRekeyLimit 4M` })
    const { host, link } = openSshHost({
      login: await server.login(),
      runAs: null,
      stagingRoot: join(server.home, 'staging'),
    })
    try {
      const fed = await host.feed(job, { stages: [{ argv: ['tee', 'got'] }, { argv: ['sha256sum'] }] })
      for (let sent = 0; sent < times; sent += 1) {
        // Its memory is given back once it was sent.
        const chunk = Buffer.from(bytes)
        if (!fed.stdin.write(chunk)) await new Promise(resolve => fed.stdin.once('drain', resolve))
      }
      await fed.complete()
      assert.equal((await fed.result).stdout.slice(0, 64), digest)
      const read = await host.stream(job, { stages: [{ argv: ['cat', 'got'] }] })
      const hash = createHash('sha256')
      for await (const chunk of read.stdout) hash.update(chunk as Buffer)
      assert.deepEqual((await read.result).exits, [0])
      assert.equal(hash.digest('hex'), digest)
    } finally {
      link.close()
      await server.stop()
    }
  })
}
