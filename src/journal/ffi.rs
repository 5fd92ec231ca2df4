// SPDX-License-Identifier: MIT OR Apache-2.0
//! libsystemd's journal reader, loaded at run time, behind a type that cannot be misused. All `unsafe` of the crate is here.
//!
//! The declarations follow `systemd/sd-journal.h`; libsystemd.so.0 has kept them since systemd 209. Rules of sd-journal(3)
//! that the types enforce: an object belongs to one thread ([`Handle`] is neither `Send` nor `Sync`), and the bytes that
//! `sd_journal_get_data` lends are valid until the next call on the object (they are copied before it returns).

#![expect(unsafe_code, reason = "libsystemd is a C library; nowhere else in this crate is C called by hand")]

use super::JournalError;
use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

/// SD_JOURNAL_LOCAL_ONLY
pub const LOCAL_ONLY: c_int = 1 << 0;
/// SD_JOURNAL_SYSTEM
pub const SYSTEM: c_int = 1 << 2;

/// The C type `sd_journal`; only ever behind a pointer.
#[repr(C)]
struct SdJournal {
    _private: [u8; 0],
}

type Call = unsafe extern "C" fn(*mut SdJournal) -> c_int;

macro_rules! api {
    ($($name:ident: $type:ty;)*) => {
        /// The functions of libsystemd that are used here.
        struct Api { $($name: $type,)* }

        impl Api {
            fn load() -> Result<Api, String> {
                // SAFETY: libsystemd.so.0 is a plain C library; its constructors and destructors have no preconditions.
                let library = unsafe { Library::new("libsystemd.so.0") }.map_err(|error| error.to_string())?;
                // SAFETY: each name is declared in sd-journal.h with exactly the type that the table gives it.
                let api = unsafe {
                    Api { $($name: *library.get::<$type>(concat!(stringify!($name), "\0").as_bytes())
                        .map_err(|error| error.to_string())?,)* }
                };
                // Never unloaded, so that the function pointers stay valid.
                std::mem::forget(library);
                Ok(api)
            }
        }
    };
}

api! {
    sd_journal_open: unsafe extern "C" fn(*mut *mut SdJournal, c_int) -> c_int;
    sd_journal_open_directory: unsafe extern "C" fn(*mut *mut SdJournal, *const c_char, c_int) -> c_int;
    sd_journal_open_files: unsafe extern "C" fn(*mut *mut SdJournal, *const *const c_char, c_int) -> c_int;
    sd_journal_close: unsafe extern "C" fn(*mut SdJournal);
    sd_journal_set_data_threshold: unsafe extern "C" fn(*mut SdJournal, usize) -> c_int;
    sd_journal_add_match: unsafe extern "C" fn(*mut SdJournal, *const c_void, usize) -> c_int;
    sd_journal_add_disjunction: Call;
    sd_journal_add_conjunction: Call;
    sd_journal_flush_matches: unsafe extern "C" fn(*mut SdJournal);
    sd_journal_seek_head: Call;
    sd_journal_seek_tail: Call;
    sd_journal_seek_realtime_usec: unsafe extern "C" fn(*mut SdJournal, u64) -> c_int;
    sd_journal_next: Call;
    sd_journal_previous: Call;
    sd_journal_get_data: unsafe extern "C" fn(*mut SdJournal, *const c_char, *mut *const c_void, *mut usize) -> c_int;
    sd_journal_get_realtime_usec: unsafe extern "C" fn(*mut SdJournal, *mut u64) -> c_int;
    sd_journal_get_fd: Call;
    sd_journal_get_timeout: unsafe extern "C" fn(*mut SdJournal, *mut u64) -> c_int;
    sd_journal_process: Call;
    sd_journal_seek_cursor: unsafe extern "C" fn(*mut SdJournal, *const c_char) -> c_int;
    sd_journal_test_cursor: unsafe extern "C" fn(*mut SdJournal, *const c_char) -> c_int;
    sd_journal_get_cursor: unsafe extern "C" fn(*mut SdJournal, *mut *mut c_char) -> c_int;
}

fn api() -> Result<&'static Api, JournalError> {
    static API: OnceLock<Result<Api, String>> = OnceLock::new();
    API.get_or_init(Api::load).as_ref().map_err(|why| JournalError::NoLibrary(why.clone()))
}

/// An open `sd_journal`, closed when dropped.
pub struct Handle {
    api: &'static Api,
    /// From a successful open, not yet closed. A raw pointer, so the type stays on its thread.
    journal: NonNull<SdJournal>,
}

impl Handle {
    pub fn open(flags: c_int) -> Result<Handle, JournalError> {
        // SAFETY: `out` is valid for the write of one pointer during the call.
        Handle::opened(|api, out| unsafe { (api.sd_journal_open)(out, flags) })
    }

    pub fn open_directory(path: &Path) -> Result<Handle, JournalError> {
        let path = c_path(path)?;
        // SAFETY: as in `open`; `path` is a C string that outlives the call, which copies it.
        Handle::opened(|api, out| unsafe { (api.sd_journal_open_directory)(out, path.as_ptr(), 0) })
    }

    pub fn open_files(paths: &[&Path]) -> Result<Handle, JournalError> {
        let paths = paths.iter().map(|path| c_path(path)).collect::<Result<Vec<CString>, _>>()?;
        let mut list: Vec<*const c_char> = paths.iter().map(|path| path.as_ptr()).collect();
        list.push(ptr::null());
        // SAFETY: as in `open`; `list` is an array of C strings that ends in NULL and outlives the call, which copies them.
        Handle::opened(|api, out| unsafe { (api.sd_journal_open_files)(out, list.as_ptr(), 0) })
    }

    fn opened(open: impl FnOnce(&Api, *mut *mut SdJournal) -> c_int) -> Result<Handle, JournalError> {
        let api = api()?;
        let mut journal = ptr::null_mut();
        check("open the journal", open(api, &raw mut journal))?;
        match NonNull::new(journal) {
            Some(journal) => Ok(Handle { api, journal }),
            None => Err(JournalError::Call { doing: "open the journal", source: io::ErrorKind::Other.into() }),
        }
    }

    /// Fields longer than this may be cut by libsystemd, which saves it from decompressing all of them.
    pub fn set_data_threshold(&mut self, bytes: usize) -> Result<(), JournalError> {
        // SAFETY: the object is open and on this thread; the argument is a number.
        let answer = unsafe { (self.api.sd_journal_set_data_threshold)(self.journal.as_ptr(), bytes) };
        check("limit the size of fields", answer).map(drop)
    }

    /// Adds `FIELD=value` to the current term; the value may hold any bytes.
    pub fn add_match(&mut self, term: &[u8]) -> Result<(), JournalError> {
        if term.is_empty() {
            // To the C function zero means "measure it with strlen".
            return Err(JournalError::Call { doing: "add a match", source: io::ErrorKind::InvalidInput.into() });
        }
        // SAFETY: the object is open and on this thread; the pointer and length are those of a live slice, which is copied.
        let answer =
            unsafe { (self.api.sd_journal_add_match)(self.journal.as_ptr(), term.as_ptr().cast(), term.len()) };
        check("add a match", answer).map(drop)
    }

    /// Ends a term: what follows is an alternative to it.
    pub fn add_disjunction(&mut self) -> Result<(), JournalError> {
        self.call("add an alternative", self.api.sd_journal_add_disjunction).map(drop)
    }

    /// Ends a group: what follows must hold as well.
    pub fn add_conjunction(&mut self) -> Result<(), JournalError> {
        self.call("add a condition", self.api.sd_journal_add_conjunction).map(drop)
    }

    pub fn flush_matches(&mut self) {
        // SAFETY: the object is open and on this thread.
        unsafe { (self.api.sd_journal_flush_matches)(self.journal.as_ptr()) }
    }

    pub fn seek_head(&mut self) -> Result<(), JournalError> {
        self.call("seek", self.api.sd_journal_seek_head).map(drop)
    }

    pub fn seek_tail(&mut self) -> Result<(), JournalError> {
        self.call("seek", self.api.sd_journal_seek_tail).map(drop)
    }

    pub fn seek_realtime(&mut self, usec: u64) -> Result<(), JournalError> {
        // SAFETY: the object is open and on this thread; the argument is a number.
        check("seek", unsafe { (self.api.sd_journal_seek_realtime_usec)(self.journal.as_ptr(), usec) }).map(drop)
    }

    /// Goes one entry on; false at the end.
    pub fn next(&mut self) -> Result<bool, JournalError> {
        self.call("read on", self.api.sd_journal_next).map(|moved| moved > 0)
    }

    /// Goes one entry back; false at the beginning.
    pub fn previous(&mut self) -> Result<bool, JournalError> {
        self.call("read back", self.api.sd_journal_previous).map(|moved| moved > 0)
    }

    /// Goes to the place that a cursor names, or near it: `next` then gives that entry or one after it.
    pub fn seek_cursor(&mut self, cursor: &CStr) -> Result<(), JournalError> {
        // SAFETY: the object is open and on this thread; `cursor` is a C string, which is only read during the call.
        check("seek", unsafe { (self.api.sd_journal_seek_cursor)(self.journal.as_ptr(), cursor.as_ptr()) }).map(drop)
    }

    /// Whether the current entry is the one that a cursor names.
    pub fn is_at(&mut self, cursor: &CStr) -> Result<bool, JournalError> {
        // SAFETY: as in `seek_cursor`.
        let answer = unsafe { (self.api.sd_journal_test_cursor)(self.journal.as_ptr(), cursor.as_ptr()) };
        check("compare a place", answer).map(|same| same > 0)
    }

    /// A descriptor that becomes readable when the journal changes, from the first call on; then call `process`.
    pub fn descriptor(&mut self) -> Result<BorrowedFd<'_>, JournalError> {
        let fd = self.call("watch the journal", self.api.sd_journal_get_fd)?;
        // SAFETY: the descriptor belongs to the object and stays open until that is closed, which needs it to be unborrowed.
        Ok(unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// When `process` wants to be called even if the descriptor says nothing: microseconds of CLOCK_MONOTONIC.
    pub fn timeout(&mut self) -> Result<Option<u64>, JournalError> {
        let mut usec = 0;
        // SAFETY: the object is open and on this thread; the place is valid for writing.
        let answer = unsafe { (self.api.sd_journal_get_timeout)(self.journal.as_ptr(), &raw mut usec) };
        check("watch the journal", answer).map(|_| (usec != u64::MAX).then_some(usec))
    }

    /// Takes note of files that have changed, come or gone; the place in the journal stays.
    pub fn process(&mut self) -> Result<(), JournalError> {
        self.call("watch the journal", self.api.sd_journal_process).map(drop)
    }

    /// The first value of a field of the current entry, at most `cap` bytes of it; `None` if the entry has no such field.
    pub fn field(&mut self, name: &CStr, cap: usize) -> Result<Option<Vec<u8>>, JournalError> {
        let mut value = Vec::new();
        Ok(self.field_into(name, cap, &mut value)?.then_some(value))
    }

    /// As `field`, into a buffer that is emptied first; false if the entry has no such field.
    pub fn field_into(&mut self, name: &CStr, cap: usize, value: &mut Vec<u8>) -> Result<bool, JournalError> {
        value.clear();
        let mut data: *const c_void = ptr::null();
        let mut len = 0;
        // SAFETY: the object is open and on this thread; `name` is a C string; both places are valid for writing.
        let answer = unsafe {
            (self.api.sd_journal_get_data)(self.journal.as_ptr(), name.as_ptr(), &raw mut data, &raw mut len)
        };
        if answer == -nix::libc::ENOENT {
            return Ok(false);
        }
        check("read a field", answer)?;
        if data.is_null() {
            return Ok(false);
        }
        // The bytes are `NAME=value`.
        let skip = name.to_bytes().len() + 1;
        let len = len.min(skip.saturating_add(cap));
        // SAFETY: on success `data` points at no fewer than `len` readable bytes, which stay until the next call on the
        // object; none is made before they are copied.
        let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) };
        value.extend_from_slice(bytes.get(skip..).unwrap_or_default());
        Ok(true)
    }

    /// When journald received the current entry.
    pub fn realtime(&mut self) -> Result<u64, JournalError> {
        let mut usec = 0;
        // SAFETY: the object is open and on this thread; the place is valid for writing.
        let answer = unsafe { (self.api.sd_journal_get_realtime_usec)(self.journal.as_ptr(), &raw mut usec) };
        check("read the time of an entry", answer).map(|_| usec)
    }

    /// The name of the current entry's place in the journal.
    pub fn cursor(&mut self) -> Result<String, JournalError> {
        let mut text: *mut c_char = ptr::null_mut();
        // SAFETY: the object is open and on this thread; the place is valid for writing.
        let answer = unsafe { (self.api.sd_journal_get_cursor)(self.journal.as_ptr(), &raw mut text) };
        check("name an entry", answer)?;
        if text.is_null() {
            return Ok(String::new());
        }
        // SAFETY: on success `text` is a C string that now belongs to us.
        let cursor = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
        // SAFETY: libsystemd allocated it with malloc(3); it is not used after this.
        unsafe { nix::libc::free(text.cast()) };
        Ok(cursor)
    }

    fn call(&mut self, doing: &'static str, function: Call) -> Result<c_int, JournalError> {
        // SAFETY: the object is open and on this thread; every `Call` takes it alone.
        check(doing, unsafe { function(self.journal.as_ptr()) })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the object is open, on this thread, and not used after this.
        unsafe { (self.api.sd_journal_close)(self.journal.as_ptr()) }
    }
}

fn c_path(path: &Path) -> Result<CString, JournalError> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|error| JournalError::Call { doing: "open the journal", source: error.into() })
}

fn check(doing: &'static str, answer: c_int) -> Result<c_int, JournalError> {
    if answer < 0 {
        return Err(JournalError::Call { doing, source: io::Error::from_raw_os_error(answer.saturating_neg()) });
    }
    Ok(answer)
}
