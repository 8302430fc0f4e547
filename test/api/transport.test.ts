/** Below HTTP's words: TLS, names, slow and oversized requests, odd paths. */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { request as plainRequest } from 'node:http'
import { request as tlsRequest } from 'node:https'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { connect as tlsConnect } from 'node:tls'
import { createLog } from '../../api/log.ts'
import { startApi } from '../../api/server.ts'
import type { Problem } from '../../model/views.ts'
import { makeCertificate } from '../servers/certificate.ts'
import { eventually, startTestApi, type TestApi } from './support.ts'

interface Answer {
  status: number
  headers: Record<string, string | string[] | undefined>
  text: string
}

/** The path as it is given, the names as they are given: `fetch` would tidy both up. */
function ask(base: string, path: string, headers: Record<string, string> = {}, ca?: Buffer): Promise<Answer> {
  const { hostname, port, protocol } = new URL(base)
  return new Promise((resolve, reject) => {
    const options = { hostname, port, path, headers, agent: false as const }
    const sent = protocol === 'https:' ? tlsRequest({ ...options, ca }) : plainRequest(options)
    sent.once('error', reject)
    sent.once('response', response => {
      let text = ''
      response.setEncoding('utf8').on('data', piece => {
        text += piece
      })
      response.once('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text }),
      )
    })
    sent.end()
  })
}

describe('transport', () => {
  let t: TestApi
  let folder = ''
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'holdfast-transport-'))
    t = await startTestApi({
      requestSeconds: 1,
      env: { HOLDFAST_API_HOSTS: 'Holdfast.example, other.example' },
    })
  })
  after(async () => {
    await t.stop()
    await rm(folder, { recursive: true, force: true })
  })

  /** What comes back on a bare connection until the other side ends it. */
  const rawly = (text: string): Promise<string> =>
    new Promise(resolve => {
      const { hostname, port } = new URL(t.api.url)
      let received = ''
      const socket = connect(Number(port), hostname, () => socket.write(text))
      socket.setEncoding('utf8').on('data', piece => {
        received += piece
      })
      socket.once('error', () => {})
      socket.once('close', () => resolve(received))
    })

  test('a request that trickles in is ended, in its head and in its body', async () => {
    const slowHead = rawly('POST /v1/keys HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ')
    const body = `Host: 127.0.0.1\r\nAuthorization: Bearer ${t.token}\r\nContent-Type: application/json\r\n`
    const slowBody = rawly(`POST /v1/keys HTTP/1.1\r\n${body}Content-Length: 100\r\n\r\n{"name":`)
    const slowChunks = rawly(
      `POST /v1/keys HTTP/1.1\r\n${body}Transfer-Encoding: chunked\r\n\r\n5\r\n{"nam\r\n`,
    )
    for (const answer of await Promise.all([slowHead, slowBody, slowChunks])) {
      assert.match(answer, /^HTTP\/1\.1 (408|400) /)
    }
    // And everybody else was served meanwhile and is now.
    assert.equal((await t.call('GET', '/v1/connections')).status, 200)
    assert.doesNotMatch(t.log(), /unexpected error/)
  })

  test('whoever has no token is refused before a body is read, and heads have an end', async () => {
    const head = 'POST /v1/keys HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n'
    const refused = await rawly(`${head}Content-Length: 1000000000\r\n\r\n{`)
    assert.match(refused, /^HTTP\/1\.1 401 /)
    assert.match(refused, /\r\nconnection: close\r\n/i)
    assert.match(await rawly(`${head}X-Long: ${'x'.repeat(40_000)}\r\n\r\n`), /^HTTP\/1\.1 431 /)
    const both = 'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n'
    assert.match(await rawly(`${head}${both}\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n`), /^HTTP\/1\.1 400 /)
  })

  test('paths lead nowhere but to what is described', async () => {
    const paths = [
      '/../../../../etc/passwd',
      '/v1/../../etc/passwd',
      '/docs/../../../etc/passwd',
      '/docs/..%2f..%2f..%2fetc%2fpasswd',
      '/docs/%2e%2e/%2e%2e/etc/passwd',
      '/openapi.json/../secret.key',
      '/v1/keys/..%2f..%2fsecret.key',
      '/v1/operations/..%00',
      '//etc/passwd',
      '/v1//connections',
      '/V1/connections',
      '/v1/connections/%ff%fe',
      '/v1/connections/%',
      '/%2e%2e%2fapi.token',
      'http://evil.example/v1/connections/../../x',
    ]
    for (const path of paths) {
      const answer = await ask(t.api.url, path, { authorization: `Bearer ${t.token}` })
      assert.ok(
        [400, 404, 422].includes(answer.status),
        `${path}: ${answer.status} ${answer.text.slice(0, 100)}`,
      )
      assert.ok(!answer.text.includes('root:') && !answer.text.includes(t.token), path)
    }
    // Without a token nobody learns what is there.
    assert.equal((await ask(t.api.url, '/v1/nothing')).status, 401)
    assert.doesNotMatch(t.log(), /unexpected error/)
  })

  test('a name that is not ours is refused, unless somebody brings a token', async () => {
    const status = async (host: string, more: Record<string, string> = {}, path = '/openapi.json') =>
      (await ask(t.api.url, path, { host, ...more })).status
    for (const host of [
      'evil.example',
      'evil.example:7460',
      '127.0.0.1.evil.example',
      'holdfast.example.evil.example',
    ]) {
      assert.equal(await status(host), 421, host)
    }
    for (const host of [
      '127.0.0.1',
      '[::1]:7460',
      'localhost:1',
      'api',
      'a.localhost',
      'HOLDFAST.example',
      'other.example:80',
    ]) {
      assert.equal(await status(host), 200, host)
    }
    assert.equal(await status('evil.example', { authorization: `Bearer ${t.token}` }, '/v1/me'), 200)
    assert.equal(await status('evil.example', { authorization: 'Bearer none' }, '/v1/me'), 401)
    assert.equal(await status('evil.example', {}, '/healthz'), 200)
    const { text } = await ask(t.api.url, '/openapi.json', { host: 'evil.example' })
    assert.match((JSON.parse(text) as Problem).detail, /HOLDFAST_API_HOSTS/)
  })

  test('TLS: by certificate files, strict, and a renewed certificate is taken while it runs', async () => {
    const files = makeCertificate(folder, 'api', 'IP:127.0.0.1')
    const env = { HOLDFAST_API_TLS_CERT: files.cert, HOLDFAST_API_TLS_KEY: files.key }
    const secure = await startTestApi({ env })
    try {
      assert.match(secure.api.url, /^https:/)
      assert.match(secure.settings.url, /^https:/)
      const ca = await readFile(files.ca)
      const answer = await ask(secure.api.url, '/v1/me', { authorization: `Bearer ${secure.token}` }, ca)
      assert.equal(answer.status, 200)
      assert.equal(answer.headers['strict-transport-security'], 'max-age=31536000')
      await assert.rejects(ask(secure.api.url, '/healthz'), { code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' })
      const port = Number(new URL(secure.api.url).port)
      const serial = () =>
        new Promise<string>((resolve, reject) => {
          const socket = tlsConnect({ port, host: '127.0.0.1', ca }, () => {
            resolve(socket.getPeerCertificate().serialNumber)
            socket.destroy()
          })
          socket.once('error', reject)
        })
      await assert.rejects(
        new Promise((resolve, reject) => {
          tlsConnect({ port, host: '127.0.0.1', ca, maxVersion: 'TLSv1.1', minVersion: 'TLSv1' }, () =>
            resolve(0),
          ).once('error', reject)
        }),
      )
      const before = await serial()
      // Half a renewal: it does not fit the key, so the one of before stays.
      await writeFile(files.cert, 'no certificate')
      await eventually('it is said', async () =>
        secure.log().includes('the certificate of before stays in use') ? true : undefined,
      )
      assert.equal(await serial(), before)
      makeCertificate(folder, 'api', 'IP:127.0.0.1')
      await eventually('the new one is used', async () => ((await serial()) !== before ? true : undefined))
    } finally {
      await secure.stop()
    }
    await assert.rejects(
      startApi({
        log: createLog(t.settings, () => {}),
        settings: {
          ...t.settings,
          home: folder,
          catalogUrl: `sqlite:${folder}/c.sqlite`,
          apiTls: { cert: files.ca, key: files.key },
        },
      }),
      { code: 'settings.invalid' },
    )
  })
})
