/**
 * Answers as HashiCorp Vault and OpenBao document them for `GET /v1/MOUNT/data/PATH` of a KV 2 engine. No real one could be
 * had where Holdfast is made; the README says so.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

export async function startRecordedVault(token: string, secrets: Record<string, Record<string, string>>) {
  let sealed = false
  const server = createServer((request, response) => {
    const path = request.url ?? ''
    const answer = (status: number, body: object) => {
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(JSON.stringify(body))
    }
    if (sealed) return answer(503, { errors: ['Vault is sealed'] })
    if (request.headers['x-vault-token'] !== token) return answer(403, { errors: ['permission denied'] })
    const data = secrets[path.replace(/^\/v1\//, '').replace('/data/', '/')]
    if (!data) return answer(404, { errors: [] })
    answer(200, { request_id: 'a', lease_id: '', data: { data, metadata: { version: 1, destroyed: false } } })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    seal(now: boolean) {
      sealed = now
    },
    stop: () => new Promise(resolve => server.close(resolve)),
  }
}
