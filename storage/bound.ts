/** A destination for one run of one step: every call ends when the step is to end, also one the store does not answer. */
import type { Destination } from './destination.ts'

/** A call that brings a signal of its own goes by that one instead. Closing it closes nothing: the destination is shared. */
export function boundTo(signal: AbortSignal, destination: Destination): Destination {
  const within = <Options extends object>(options?: Options) => ({ signal, ...options })
  const { classes, move } = destination
  return {
    kind: destination.kind,
    uri: destination.uri,
    // What a store can do is found out while it is used.
    get capabilities() {
      return destination.capabilities
    },
    ...(classes === undefined
      ? {}
      : {
          classes: {
            ...classes,
            thaw: (key, days, options) => classes.thaw(key, days, within(options)),
          },
        }),
    ...(move === undefined ? {} : { move: (key, to, options) => move(key, to, within(options)) }),
    put: (key, body, options) => destination.put(key, body, within(options)),
    read: (key, options) => destination.read(key, within(options)),
    get: (key, options) => destination.get(key, within(options)),
    stat: (key, options) => destination.stat(key, within(options)),
    list: (prefix, options) => destination.list(prefix, within(options)),
    remove: (key, options) => destination.remove(key, within(options)),
    openUpload: (key, options) => destination.openUpload(key, within(options)),
    putPart: (key, uploadId, part, options) => destination.putPart(key, uploadId, part, within(options)),
    listParts: (key, uploadId, options) => destination.listParts(key, uploadId, within(options)),
    completeUpload: (key, uploadId, parts, options) =>
      destination.completeUpload(key, uploadId, parts, within(options)),
    abortUpload: (key, uploadId, options) => destination.abortUpload(key, uploadId, within(options)),
    listUploads: (prefix, options) => destination.listUploads(prefix, within(options)),
    check: options => destination.check(within(options)),
    close: async () => {},
  }
}
