/** Paths as people type them, relative to where they stand, made absolute before they travel to the API. */
import { resolve } from 'node:path'

/** `shop.db`, `./shop.db`, `sqlite:shop.db` → absolute; URLs of servers stay as they are. */
export function absoluteConnectionUrl(url: string, cwd: string): string {
  const [, scheme, rest = ''] = /^([a-z][a-z0-9+.-]*):(.*)$/is.exec(url) ?? []
  if (scheme === undefined) return resolve(cwd, url)
  const isFile = ['sqlite', 'sqlite3', 'file'].includes(scheme.toLowerCase())
  return isFile && !rest.startsWith('/') ? `sqlite:${resolve(cwd, rest)}` : url
}

/** `./backups` and `file:backups` → an absolute path; `file:///…`, `s3://…` stay as they are. */
export function absoluteDestinationUri(uri: string, cwd: string): string {
  if (uri.startsWith('file:') && !uri.startsWith('file:/')) return resolve(cwd, uri.slice('file:'.length))
  return /^[a-z][a-z0-9+.-]*:/i.test(uri) ? uri : resolve(cwd, uri)
}

/** True when the URL itself holds a password: then it is in the shell's history too. */
export function holdsPassword(url: string): boolean {
  return /^[a-z][a-z0-9+.-]*:\/\/[^/?#@]*:[^/?#]+@/i.test(url)
}
