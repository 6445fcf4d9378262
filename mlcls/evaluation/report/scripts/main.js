// The page comes to life.

setUpExplorer();
setUpDetail();
setUpGallery();
setUpLooks();
setUpLists();
document.documentElement.dataset.ready = 'yes';
performance.mark('usable');
