/** Memory that payloads are parts of. */
export interface Slab {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Payloads that are in use; with none, the slab can be filled anew. */
  users: number;
}

/** Holds several requests of the size that the kernel and qemu send, and fits a processor's cache. */
const slabBytes = 512 * 1024;
/** Less room than this is not worth a system call. */
const minRoomBytes = 64 * 1024;
/** Slabs kept for later use. */
const maxFreeSlabs = 4;
/** With more slabs in use than this, further ones are small: a few bytes that somebody needs for long keep a whole slab. */
const maxLargeSlabs = 8;

/**
 * Where the bytes of a connection are received, one behind the other, so that a payload lies in one piece and is used
 * where it is. Slabs are filled again when nobody uses their content any more. Memory for every piece received would be
 * more for the garbage collector than it is for the copying: V8 collects everything after some megabytes of buffers.
 *
 * The protocol is `room`, then `filled` for what has been put there, before the next `room`. Nothing else moves what has
 * been received.
 */
export class ReceiveBuffer {
  #slab: Slab = newSlab(slabBytes);
  /** The stretch of the slab that has been filled and not yet been taken. */
  #start = 0;
  #end = 0;
  /** Bytes from #start that have to lie in one piece. */
  #neededBytes = 0;
  #free: Slab[] = [];
  /** Of the large size, in use or free. */
  #largeSlabs = 1;

  get availableBytes(): number {
    return this.#end - this.#start;
  }

  /** The bytes that have not been taken begin there. */
  get view(): DataView {
    return this.#slab.view;
  }

  get position(): number {
    return this.#start;
  }

  /** Says that the next so many bytes have to lie in one piece. */
  need(bytes: number): void {
    this.#neededBytes = bytes;
  }

  /** Where the next bytes are to be put: a place for at least one. */
  room(): Uint8Array {
    const missingBytes = Math.max(0, this.#neededBytes - this.availableBytes);
    const roomBytes = this.#slab.bytes.length - this.#end;
    if (this.#slab.users === 0 && this.availableBytes === 0) this.#restart(missingBytes);
    else if (roomBytes < (missingBytes || minRoomBytes)) this.#move(Math.max(missingBytes, minRoomBytes));
    return this.#slab.bytes.subarray(this.#end);
  }

  filled(bytes: number): void {
    this.#end += bytes;
  }

  skip(bytes: number): void {
    this.#start += bytes;
  }

  /** Takes the next bytes, which are there. They stay as they are until the slab is released. */
  take(bytes: number): { data: Uint8Array; slab: Slab } {
    const slab = this.#slab;
    const data = slab.bytes.subarray(this.#start, this.#start + bytes);
    this.#start += bytes;
    this.#neededBytes = 0;
    slab.users += 1;
    return { data, slab };
  }

  release(slab: Slab): void {
    slab.users -= 1;
    if (slab.users === 0 && slab !== this.#slab) this.#keep(slab);
  }

  /** Nothing of the slab is in use: it is filled from its beginning, unless it is one of an unusual size. */
  #restart(missingBytes: number): void {
    this.#start = this.#end = 0;
    if (this.#slab.bytes.length !== slabBytes || missingBytes > slabBytes)
      this.#move(Math.max(missingBytes, minRoomBytes));
  }

  /** Goes on with so much room behind what has not been taken: in another slab, or at the beginning of this one. */
  #move(roomBytes: number): void {
    const before = this.#slab;
    const left = before.bytes.subarray(this.#start, this.#end);
    const fits = before.bytes.length === slabBytes && left.length + roomBytes <= slabBytes;
    if (before.users > 0 || !fits) this.#slab = this.#other(left.length + roomBytes);
    this.#slab.bytes.set(left);
    this.#start = 0;
    this.#end = left.length;
    if (this.#slab !== before && before.users === 0) this.#keep(before);
  }

  #other(bytes: number): Slab {
    if (bytes > slabBytes) return newSlab(bytes);
    const free = this.#free.pop();
    if (free) return free;
    if (this.#largeSlabs >= maxLargeSlabs) return newSlab(bytes);
    this.#largeSlabs += 1;
    return newSlab(slabBytes);
  }

  #keep(slab: Slab): void {
    if (slab.bytes.length !== slabBytes) return;
    if (this.#free.length < maxFreeSlabs) this.#free.push(slab);
    else this.#largeSlabs -= 1;
  }
}

function newSlab(size: number): Slab {
  const bytes = Buffer.allocUnsafeSlow(size);
  return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, size), users: 0 };
}
