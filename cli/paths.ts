/** Paths as people type them, relative to where they stand, made absolute before they travel to the API. */
import { resolve } from 'node:path'

/** `shop.db`, `./shop.db`, `sqlite:shop.db` → `sqlite:/…/shop.db`; URLs of servers stay as they are. */
export function absoluteConnectionUrl(url: string, cwd: string): string {
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(url)
  if (scheme === null) return `sqlite:${resolve(cwd, url)}`
  if (scheme[1]?.toLowerCase() !== 'sqlite') return url
  const path = url.slice('sqlite:'.length)
  return path.startsWith('/') ? url : `sqlite:${resolve(cwd, path)}`
}

/** `./backups` and `file:backups` → an absolute path; `file:///…`, `s3://…` stay as they are. */
export function absoluteDestinationUri(uri: string, cwd: string): string {
  if (uri.startsWith('file:') && !uri.startsWith('file:/')) return resolve(cwd, uri.slice('file:'.length))
  return /^[a-z][a-z0-9+.-]*:/i.test(uri) ? uri : resolve(cwd, uri)
}

/** True when the URL itself holds a password: then it is in the shell's history too. */
export function holdsPassword(url: string): boolean {
  return URL.canParse(url) && (new URL(url).password !== '' || new URL(url).searchParams.has('password'))
}
