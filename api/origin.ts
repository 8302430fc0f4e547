/**
 * Where a request comes from, and whether it came over TLS. What proxies say of it is believed of those alone that the settings
 * name: anybody can send a header.
 */
import { BlockList, isIP } from 'node:net'
import { hostname } from 'node:os'
import { TLSSocket } from 'node:tls'
import type { HttpBindings } from '@hono/node-server'
import type { Context, MiddlewareHandler } from 'hono'
import { HoldfastError } from '../model/errors.ts'
import type { Settings } from '../model/settings.ts'
import type { ApiEnv } from './context.ts'
import { HttpRefusal } from './problem.ts'

export const withOrigin = (settings: Pick<Settings, 'trustedProxies'>): MiddlewareHandler<ApiEnv> => {
  const trusted = addressList(settings.trustedProxies)
  return async (c, next) => {
    const { socket } = (c.env as HttpBindings).incoming
    const peer = plain(socket.remoteAddress ?? '')
    const proxied = trusted(peer)
    c.set('address', proxied ? clientBehind(peer, c.req.header('x-forwarded-for'), trusted) : peer)
    const scheme = proxied ? c.req.header('x-forwarded-proto') : undefined
    c.set(
      'secure',
      scheme === undefined ? socket instanceof TLSSocket : scheme.trim().toLowerCase() === 'https',
    )
    await next()
  }
}

/** The nearest address that is no proxy of ours: what stands before it, anybody may have written. */
function clientBehind(
  peer: string,
  forwarded: string | undefined,
  trusted: (address: string) => boolean,
): string {
  let nearest = peer
  for (const hop of (forwarded ?? '').split(',').reverse()) {
    const address = plain(hop.trim().replace(/^\[(.*)\](:\d+)?$/, '$1'))
    if (isIP(address) === 0) break
    nearest = address
    if (!trusted(address)) break
  }
  return nearest
}

/** An IPv4 address is never shown as an IPv6 one. */
const plain = (address: string): string => address.replace(/^::ffff:(?=\d+\.)/i, '')

function addressList(entries: readonly string[]): (address: string) => boolean {
  const list = new BlockList()
  for (const entry of entries) {
    const [address = '', bits] = entry.split('/')
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
    if (bits === undefined) list.addAddress(address, family)
    else list.addSubnet(address, Number(bits), family)
  }
  return address => isIP(address) !== 0 && list.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4')
}

/** Load balancers ask these, under any name. */
const watched = ['/healthz', '/readyz']

/**
 * Refuses browsers that were led here under a name that is not ours (a page of that name could then read our answers). Numbers,
 * names without a dot and this machine's own cannot be led anywhere; whoever brings a token is no browser.
 */
export const withHost = (
  settings: Pick<Settings, 'apiHosts' | 'apiListen' | 'url'>,
): MiddlewareHandler<ApiEnv> => {
  const ours = [...settings.apiHosts, settings.apiListen.host, new URL(settings.url).hostname, hostname()]
  const names = new Set(ours.map(name => name.toLowerCase()))
  return async (c, next) => {
    const name = (c.req.header('host') ?? '').replace(/:\d+$/, '').toLowerCase()
    const bare = name.replace(/^\[(.*)\]$/, '$1')
    const safe = isIP(bare) !== 0 || !bare.includes('.') || bare.endsWith('.localhost') || names.has(bare)
    if (safe || c.req.header('authorization') !== undefined || watched.includes(c.req.path)) {
      return await next()
    }
    throw new HttpRefusal(
      421,
      `"${name.slice(0, 100)}" is not known as a name of this API; see HOLDFAST_API_HOSTS.`,
    )
  }
}

/**
 * Refuses requests that a page of another site made somebody's browser send. Browsers say where a request comes from; other
 * programs do not, and have no cookies of anybody.
 */
export function assertSameOrigin(c: Context<ApiEnv>): void {
  const site = c.req.header('sec-fetch-site')
  if (site !== undefined ? site === 'same-origin' || site === 'none' : originIsHost(c)) return
  throw new HoldfastError(
    'request.forbidden',
    `${c.req.method} ${c.req.path} was sent by a page of another site.`,
  )
}

function originIsHost(c: Context<ApiEnv>): boolean {
  const origin = c.req.header('origin')
  if (origin === undefined) return true
  return URL.canParse(origin) && new URL(origin).host === c.req.header('host')
}
