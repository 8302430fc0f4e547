/** What people type for a directory: an absolute path, `file:///dir`, `path:/dir`. */
import { resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { z } from 'zod'
import { HoldfastError } from '../../model/errors.ts'
import { invalidUri, type KindForm, parseSettings } from '../kind.ts'
import { segmentTrouble } from '../object-key.ts'

const title = 'a directory'
const none = z.strictObject({})

export const localForm: KindForm = {
  kind: 'local',
  title,
  schemes: ['file', 'path'],
  parse(scheme, rest, extras) {
    parseSettings(none, extras, title)
    const path = scheme === 'file' ? pathOfFileUrl(rest) : rest.replace(/^\/\/(?=\/)/, '')
    if (!path.startsWith('/')) invalidUri('a directory must be given as an absolute path')
    const trouble = path
      .split('/')
      .filter(segment => segment !== '')
      .map(segmentTrouble)
      .find(found => found !== undefined)
    if (trouble) invalidUri(`the path ${trouble}`)
    const root = resolve(path)
    if (root === '/') invalidUri('the root of the file system cannot be a destination')
    return { uri: pathToFileURL(root).href, settings: {} }
  },
  secretFields: [],
  checkSecrets() {},
}

function pathOfFileUrl(rest: string): string {
  if (!rest.startsWith('/')) invalidUri('a file URI has three slashes: file:///directory')
  // The URL parser would take '..' away before anybody saw it.
  if (/(^|\/)(\.|%2e){1,2}(\/|$)/i.test(rest)) invalidUri('the path has "." or ".." as a segment')
  let url: URL
  try {
    url = new URL(`file:${rest}`)
    if (url.search || url.hash) invalidUri('"?" and "#" in a file URI must be written %3F and %23')
    return fileURLToPath(url)
  } catch (error) {
    if (error instanceof HoldfastError) throw error
    return invalidUri('it is not a file URI on this machine')
  }
}
