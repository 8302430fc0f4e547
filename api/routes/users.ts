import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import { csrfTokenOf } from '../../catalog/sessions.ts'
import {
  changeUser,
  checkPassword,
  findUser,
  insertUser,
  listUsers,
  readUser,
  setPassword,
  type UserRecord,
} from '../../catalog/users.ts'
import {
  passwordInput,
  selfView,
  type UserView,
  userChange,
  userInput,
  userView,
} from '../../model/access.ts'
import { HoldfastError } from '../../model/errors.ts'
import type { Actor } from '../../model/records.ts'
import { page } from '../../model/views.ts'
import { sessionSecretOf } from '../actor.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { assertMatch, withEtag } from '../etag.ts'
import { InvalidRequest } from '../problem.ts'
import { assertRole, requires } from '../roles.ts'
import { body, cursorOf, json, nameParam, noQuery, pageOf, pageQuery, problems } from './answers.ts'

const tags = ['users']

const add = createRoute({
  method: 'post',
  path: '/v1/users',
  tags,
  ...requires('admin'),
  summary: 'Add a user',
  request: { body: body(userInput) },
  responses: { 201: json(userView, 'Added'), ...problems },
})
const list = createRoute({
  method: 'get',
  path: '/v1/users',
  tags,
  ...requires('admin'),
  summary: 'All users',
  request: { query: z.strictObject(pageQuery) },
  responses: { 200: json(page(userView), 'By name'), ...problems },
})
const show = createRoute({
  method: 'get',
  path: '/v1/users/{name}',
  tags,
  ...requires('viewer'),
  summary: 'One user; others than oneself for admins',
  request: { params: nameParam },
  responses: { 200: json(userView, 'The user'), ...problems },
})
const change = createRoute({
  method: 'patch',
  path: '/v1/users/{name}',
  tags,
  ...requires('admin'),
  summary: 'Change the role of a user, or whether they may come in',
  request: { params: nameParam, body: body(userChange) },
  responses: { 200: json(userView, 'As they are now'), ...problems },
})
const password = createRoute({
  method: 'put',
  path: '/v1/users/{name}/password',
  tags,
  ...requires('viewer'),
  summary:
    "Set a password: one's own with the current one, that of others as admin; ends the user's sessions",
  request: { params: nameParam, body: body(passwordInput) },
  responses: { 204: { description: 'Set' }, ...problems },
})
const self = createRoute({
  method: 'get',
  path: '/v1/me',
  tags,
  ...requires('viewer', 'nothing'),
  summary: 'Who asks, and what they may',
  request: { query: noQuery },
  responses: { 200: json(selfView, 'You'), ...problems },
})

export function userRoutes(app: OpenAPIHono<ApiEnv>, { catalog }: ApiContext): void {
  app.openapi(add, async c => {
    const requestKey = c.get('requestKey')
    const { password: first = null, ...input } = c.req.valid('json')
    const known = await findUser(catalog, input.name)
    const made =
      known && requestKey !== null && known.requestKey === requestKey
        ? known
        : await insertUser(catalog, { ...input, requestKey }, first)
    return c.json(withEtag(c, userViewOf(made)), 201)
  })
  app.openapi(list, async c => {
    const { cursor, limit = 50 } = c.req.valid('query')
    const found = await listUsers(catalog, cursor?.id ?? '', limit + 1)
    return c.json(
      pageOf(found, limit, last => cursorOf('', last.name), userViewOf),
      200,
    )
  })
  app.openapi(show, async c => {
    const { name } = c.req.valid('param')
    assertSelfOrAdmin(c.get('actor'), name, 'Reading another user')
    return c.json(withEtag(c, userViewOf(await readUser(catalog, name))), 200)
  })
  app.openapi(change, async c => {
    const changed = await changeUser(catalog, c.req.valid('param').name, c.req.valid('json'), user =>
      assertMatch(c, userViewOf(user)),
    )
    return c.json(withEtag(c, userViewOf(changed)), 200)
  })
  app.openapi(password, async c => {
    const { name } = c.req.valid('param')
    const { password: wanted, currentPassword } = c.req.valid('json')
    const actor = c.get('actor')
    assertSelfOrAdmin(actor, name, 'Setting the password of another user')
    // Whoever sits down before an open session must not be able to keep its user out.
    if (actor.user === name) await assertCurrent(name, currentPassword, actor.address)
    await setPassword(catalog, name, wanted, actor.via === 'session' ? actor.credentialId : undefined)
    return c.body(null, 204)
  })
  app.openapi(self, c => {
    const { name, user, via, credentialId: credential, role, scopes, connections, expiresAt } = c.get('actor')
    const secret = via === 'session' ? sessionSecretOf(c) : undefined
    const csrfToken = secret === undefined ? null : csrfTokenOf(secret)
    return c.json({ name, user, via, credential, role, scopes, connections, expiresAt, csrfToken }, 200)
  })

  async function assertCurrent(name: string, current: string | undefined, address: string): Promise<void> {
    const { hasPassword } = await readUser(catalog, name)
    if (!hasPassword) return
    if (current === undefined) {
      throw new InvalidRequest([
        { path: 'currentPassword', message: "is needed to change one's own password" },
      ])
    }
    if (await checkPassword(catalog, name, current, address)) return
    throw new HoldfastError('request.password', `The current password of ${name} is another one.`)
  }
}

function assertSelfOrAdmin(actor: Actor, name: string, what: string): void {
  if (actor.user !== name) assertRole(actor, 'admin', what)
}

const userViewOf = ({ name, role, disabled, hasPassword, createdAt }: UserRecord): UserView => ({
  name,
  role,
  disabled,
  hasPassword,
  createdAt,
})
