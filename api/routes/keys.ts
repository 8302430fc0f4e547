import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import { writerIdentity } from '../../catalog/installation.ts'
import { addKey, keyring } from '../../catalog/keys.ts'
import { lockKey, openedKeys, openKey } from '../../catalog/opened-keys.ts'
import { HoldfastError } from '../../model/errors.ts'
import { keyInput, unlockInput } from '../../model/inputs.ts'
import type { KeyFile, LockedKeyFile, RecipientFile } from '../../model/manifest.ts'
import { homePaths } from '../../model/settings.ts'
import { type KeyView, keyView, page } from '../../model/views.ts'
import { createKey, importPublicKey, recipientOf } from '../../storage/keys.ts'
import { createLockedKey } from '../../storage/locked-keys.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { requires } from '../roles.ts'
import { body, json, nameParam, nothing, pageByKey, pageQuery, problems } from './answers.ts'

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
const unlock = createRoute({
  method: 'post',
  path: '/v1/keys/{name}/unlock',
  tags,
  ...requires('operator'),
  summary: 'Open a locked key for a while, so that backups can be restored with it',
  request: { params: nameParam, body: body(unlockInput) },
  responses: { 200: json(keyView, 'Open'), ...problems },
})
const lock = createRoute({
  method: 'post',
  path: '/v1/keys/{name}/lock',
  tags,
  ...requires('operator'),
  summary: 'Lock a key again',
  request: { params: nameParam, body: body(nothing) },
  responses: { 200: json(keyView, 'Locked'), ...problems },
})

const defaultMinutes = 60

export function keyRoutes(app: OpenAPIHono<ApiEnv>, { catalog, settings }: ApiContext): void {
  const directory = homePaths(settings.home).keys
  app.openapi(add, async c => {
    const { name, publicKey, passphrase } = c.req.valid('json')
    if (publicKey !== undefined && passphrase !== undefined) {
      throw new HoldfastError(
        'request.invalid',
        'A public key has no passphrase here: its private key lies elsewhere.',
      )
    }
    if (publicKey !== undefined) {
      const made = await addKey(catalog, directory, `${name}.pub.json`, () =>
        importPublicKey(directory, name, publicKey),
      )
      return c.json(publicView(made), 201)
    }
    const { installationId, publicKey: own } = await writerIdentity(catalog)
    const trusted = { [installationId]: own }
    if (passphrase !== undefined) {
      const made = await addKey(catalog, directory, `${name}.json`, () =>
        createLockedKey(directory, name, trusted, passphrase),
      )
      return c.json(lockedView(made, null), 201)
    }
    const made = await addKey(catalog, directory, `${name}.json`, () => createKey(directory, name, trusted))
    return c.json(fileView(made), 201)
  })
  const viewOf = async (name: string, openUntil: string | null) => {
    const key = (await keyring(catalog, directory)).locked.find(one => one.name === name)
    if (!key) throw new HoldfastError('key.missing', `Key "${name}" is not there any more.`)
    return lockedView(key, openUntil)
  }
  app.openapi(unlock, async c => {
    const { name } = c.req.valid('param')
    const { passphrase, minutes = defaultMinutes } = c.req.valid('json')
    return c.json(await viewOf(name, await openKey(catalog, directory, name, passphrase, minutes)), 200)
  })
  app.openapi(lock, async c => {
    const { name } = c.req.valid('param')
    await lockKey(catalog, directory, name)
    return c.json(await viewOf(name, null), 200)
  })
  app.openapi(list, async c => {
    const ring = await keyring(catalog, directory)
    const opened = new Map((await openedKeys(catalog)).map(key => [key.kid, key.until]))
    const items = [
      ...ring.keys.map(fileView),
      ...ring.locked.map(key => lockedView(key, opened.get(key.kid) ?? null)),
      ...ring.recipients.map(publicView),
    ]
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

const lockedView = (key: LockedKeyFile, openUntil: string | null): KeyView => ({
  name: key.name,
  kid: key.kid,
  kind: 'locked',
  algorithm: recipientOf(key).algorithm,
  createdAt: key.createdAt,
  openUntil,
})

const fileView = (key: KeyFile): KeyView => ({
  name: key.name,
  kid: key.kid,
  kind: 'key-file',
  algorithm: recipientOf(key).algorithm,
  createdAt: key.createdAt,
  openUntil: null,
})

const publicView = (key: RecipientFile): KeyView => ({
  name: key.name,
  kid: key.kid,
  kind: 'public',
  algorithm: key.algorithm,
  createdAt: key.createdAt,
  openUntil: null,
})
