import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import { writerIdentity } from '../../catalog/installation.ts'
import { addKey, keyring } from '../../catalog/keys.ts'
import type { KeyFile, RecipientFile } from '../../model/manifest.ts'
import { type KeyView, keyInput, keyView, page } from '../../model/schemas.ts'
import { homePaths } from '../../model/settings.ts'
import { createKey, importPublicKey, recipientOf } from '../../storage/keys.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { requires } from '../roles.ts'
import { body, json, pageByKey, pageQuery, problems } from './answers.ts'

const tags = ['keys']

const add = createRoute({
  method: 'post',
  path: '/v1/keys',
  tags,
  ...requires('admin'),
  summary: 'Make a key file, or take in a public key to encrypt for',
  description: 'The private key stays in the keys directory; no answer ever holds it.',
  request: { body: body(keyInput) },
  responses: { 201: json(keyView, 'Made'), ...problems },
})
const list = createRoute({
  method: 'get',
  path: '/v1/keys',
  tags,
  ...requires('viewer', 'nothing'),
  summary: 'All keys',
  request: { query: z.strictObject(pageQuery) },
  responses: { 200: json(page(keyView), 'By name'), ...problems },
})

export function keyRoutes(app: OpenAPIHono<ApiEnv>, { catalog, settings }: ApiContext): void {
  const directory = homePaths(settings.home).keys
  app.openapi(add, async c => {
    const { name, publicKey } = c.req.valid('json')
    if (publicKey !== undefined) {
      const made = await addKey(catalog, directory, `${name}.pub.json`, () =>
        importPublicKey(directory, name, publicKey),
      )
      return c.json(publicView(made), 201)
    }
    const { installationId, publicKey: own } = await writerIdentity(catalog)
    const made = await addKey(catalog, directory, `${name}.json`, () =>
      createKey(directory, name, { [installationId]: own }),
    )
    return c.json(fileView(made), 201)
  })
  app.openapi(list, async c => {
    const ring = await keyring(catalog, directory)
    const items = [...ring.keys.map(fileView), ...ring.recipients.map(publicView)]
    return c.json(
      pageByKey(
        items,
        c.req.valid('query'),
        key => key.name,
        key => key,
      ),
      200,
    )
  })
}

const fileView = (key: KeyFile): KeyView => ({
  name: key.name,
  kid: key.kid,
  kind: 'key-file',
  algorithm: recipientOf(key).algorithm,
  createdAt: key.createdAt,
})

const publicView = (key: RecipientFile): KeyView => ({
  name: key.name,
  kid: key.kid,
  kind: 'public',
  algorithm: key.algorithm,
  createdAt: key.createdAt,
})
